/*
 * The peer of HTTP/2 tests: nghttp2's client session at the other end of a wire. What it sends and
 * hears is driven by h2_pump(), which adds a line to the rig's trace for everything that the server
 * did since the last one, stream by stream, so that the trace does not depend on the cuts:
 *
 *     s1 head 200 [content-length: 5]
 *     s1 body hello
 *     s1 end
 *     s1 reset 8
 *     goaway 0
 *     closed
 */
#ifndef H2CLIENT_H
#define H2CLIENT_H

#include "harness.h"

#include <nghttp2/nghttp2.h>

typedef struct h2client h2client;

enum {
    H2_NO_WINDOW = 1, /* windows are never given back by themselves */
    H2_DEAF = 2,      /* the session hears nothing, so it cannot object; only GOAWAY is traced */
};

/* Opens a wire and queues preface and SETTINGS. NULL: the server had no memory. */
h2client *h2_open(rig *r, int flags);
/* The same, with an initial window for each stream. */
h2client *h2_open_window(rig *r, int flags, uint32_t window);
/* Opens a wire and sends a request of HTTP/1.1 that asks for HTTP/2; eager: with what the session
 * has to send behind it, which no client may before the answer. Stream 1 is the request's. */
h2client *h2_upgrade(rig *r, const char *request, bool eager);
void h2_free(h2client *c);
/* Queues a request; headers is "a: b| c: d" or "". body: NULL for none; "" opens one that h2_body
 * continues. Returns the stream's number; 0 when c is NULL. */
int32_t h2_request(h2client *c, const char *method, const char *path, const char *headers,
                   const char *body);
/* Fields given singly, pseudo fields too, in that order: ":method: GET| :path: /". */
int32_t h2_fields(h2client *c, const char *fields, bool end);
/* A piece of a body that "" opened; the last one ends it. */
void h2_body(h2client *c, int32_t id, const void *p, size_t n, bool last);
void h2_reset(h2client *c, int32_t id, uint32_t code);
/* Bytes that no session would send; all that was queued goes before. */
void h2_raw(h2client *c, const void *p, size_t n);
/* A frame of its own. */
void h2_frame(h2client *c, int type, int flags, int32_t id, const void *payload, size_t n);
/* Exchanges bytes until nobody has any more, then traces. */
void h2_pump(h2client *c);
nghttp2_session *h2_session(h2client *c);
wire *h2_wire(h2client *c);

#endif
