/*
 * What the C tests and fuzz targets share: a rig that holds a real loop and server, wires (memory
 * transports whose peer is the test), applications written in a tiny language, virtual time, and
 * the three ways a case is run.
 *
 * A case is a scenario: a function that opens wires and feeds them. check_scenario() runs it with
 * the input whole, byte by byte and in seeded random cuts (then writes are cut too) and wants the
 * same trace and the same output from all of them; then it runs it again and again with the n-th
 * allocation failing, where nothing may crash, hang or leak.
 *
 * Time is virtual: harness.c defines clock_gettime(), so the loop's timers fire exactly when
 * rig_advance() says so.
 *
 * The language of the applications: operations separated by ';'. An application that has reached
 * its end has finished.
 *
 *     pull                   takes one event, waits for it
 *     body                   takes events up to the end of the body or the disconnect
 *     leave                  takes events up to the disconnect
 *     start 200 a: b| c: d   cd_stream_start
 *     write TEXT, last TEXT  cd_stream_write, copied, more / no more; waits after CD_AGAIN.
 *                            \r \n \\ \xNN in TEXT
 *     pin N, lastpin N       the same with N bytes a..z and a token
 *     echo                   writes every piece of the body back, then ends the response
 *     go                     waits for rig_go()
 *     abort                  cd_stream_abort
 *     fail                   ends, as an application that raised
 *     accept [SUB][| a: b]   cd_ws_accept
 *     text TEXT, bytes N     cd_ws_send
 *     close CODE [REASON]    cd_ws_close
 *     wsecho                 connect is accepted, messages are sent back, up to the disconnect
 *     hint A| B              cd_stream_hint with two links
 *     announce               cd_stream_announce
 *     trailers a: b| c: d    cd_stream_trailers, more to come; lasttrailers: the last
 *     file FROM N            cd_stream_file of the rig's file (a..z again and again), more to come;
 *                            lastfile: the last piece
 *     size N                 the rig's file gets this size (RIG_FILE_SIZE at first)
 *     inside                 all peers leave, and the application takes a turn of the loop itself
 *
 * The trace has a line for everything the application saw, "1 open GET /x", and every code that was
 * not CD_OK or CD_AGAIN. Adjacent body events are one line, so that it does not depend on the cuts.
 */
#ifndef HARNESS_H
#define HARNESS_H

#include "base/mem.h"
#include "cdaphne.h"
#include "http/stream.h"
#include "loop/loop.h"
#include "net/conn.h"
#include "net/transport.h"
#include "server/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- counting ---- */

/* Counts, and prints what failed; fmt is printf's. Returns ok. */
bool check_that(bool ok, const char *file, int line, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Same bytes? Prints both, escaped. */
bool check_bytes(const char *file, int line, const char *what, const void *got, size_t got_size,
                 const void *want, size_t want_size);
/* How many checks have failed so far; for the fuzz targets. */
int check_failures(void);
/* Prints "N passed, N failed"; the exit status of main. */
int check_summary(void);

#define CHECK(ok) check_that(ok, __FILE__, __LINE__, "%s", #ok)
#define CHECK_INT(got, want)                                                                      \
    do {                                                                                          \
        long long got_ = (long long)(got), want_ = (long long)(want);                             \
        check_that(got_ == want_, __FILE__, __LINE__, "%s is %lld, not %lld", #got, got_, want_); \
    } while (0)
#define CHECK_STR(got, want)                                                             \
    do {                                                                                 \
        const char *got_ = (got), *want_ = (want);                                       \
        check_bytes(__FILE__, __LINE__, #got, got_, strlen(got_), want_, strlen(want_)); \
    } while (0)

/* ---- growing text ---- */

typedef struct {
    char *p; /* NUL-terminated once anything was added, else NULL */
    size_t n, size;
} text;

void text_add(text *t, const void *p, size_t n);
void text_format(text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Printable ASCII stays, the rest becomes \r, \n, \\ or \xNN. */
void text_escape(text *t, const void *p, size_t n);
/* Escaped, or length and hash of what is long. */
void text_bytes(text *t, const char *p, size_t n);
void text_free(text *t);

/* ---- wires ---- */

enum cut { CUT_WHOLE, CUT_BYTES, CUT_RANDOM };

typedef struct rig rig;

/* A connection as its peer sees it. Owned by the rig; stays readable after the server closed it. */
typedef struct wire {
    cd_transport transport; /* transport.conn is valid until closed */
    rig *rig;
    struct wire *next;
    text input; /* fed and not yet read: from input_start on */
    size_t input_start;
    text output; /* what the server wrote */
    size_t room; /* bytes that writev still takes; SIZE_MAX: no limit */
    int want;    /* CD_READ | CD_WRITE as the connection asked */
    bool eof, reset_by_peer;
    bool fin; /* the server said that nothing more comes */
    bool closed, was_reset;
    unsigned reads; /* reads left in this turn */
} wire;

enum { RIG_FILE_SIZE = 100000 };

/* A new connection. NULL: the server had no memory. */
wire *wire_open(rig *r);
/* The peer sends; returns after everything that could happen has happened. w may be NULL. */
void wire_feed(wire *w, const void *p, size_t n);
void wire_text(wire *w, const char *string);
/* The peer sends FIN, or its connection is dead; settled as above. */
void wire_eof(wire *w);
void wire_reset(wire *w);
/* The peer takes so many bytes more; SIZE_MAX: all. Settled as above. */
void wire_room(wire *w, size_t n);
/* Output so far, NUL-terminated; its length is output.n. */
const char *wire_output(const wire *w);
/* Forgets the output so far. */
void wire_take(wire *w);

/* ---- the rig ---- */

typedef struct app app;

struct rig {
    cd_loop *loop;
    cd_server *server;
    ev_check io;
    wire *wires;        /* newest first */
    app *apps;          /* newest first; those whose on_gone has not come */
    const char *script; /* of the applications that are opened from now on */
    text trace;
    enum cut cut;
    unsigned seed;
    unsigned long turns;
    int opened, gone, logged, released;
    long pinned; /* tokens that were not released */
    int file;    /* an anonymous file, made by the first application that wants it; else -1 */
    size_t fds;  /* descriptors that were open before the rig */
    int level;   /* log lines from here on go into the trace */
};

/* What limits, date and Server header the next rigs have; NULL: defaults, no date, no Server
 * header. */
void rig_configure(const cd_config *config);
/* NULL: no memory. */
rig *rig_new(enum cut cut, unsigned seed);
/* Ends the applications, frees the server, and checks that nothing is left. */
void rig_free(rig *r);
/* One poll and one dispatch. */
void rig_turn(rig *r);
/* Turns until nothing happens any more; a failed check when that takes for ever. */
void rig_settle(rig *r);
/* Lets time pass, then settles. */
void rig_advance(rig *r, double seconds);
/* An operator sets the wall clock; no deadline may depend on it. */
void rig_shift_wall_clock(long seconds);
/* Applications that stand at "go" go on; then settles. */
void rig_go(rig *r);
/* What the trace has, with the pieces that wait to be merged. */
const char *rig_trace(rig *r);

/* ---- cases ---- */

typedef void scenario(rig *r, const void *arg);

/* Runs one scenario in all ways. want_output is of the first wire; either may be NULL: not compared
 * with a text. */
void check_scenario(const char *name, scenario *run, const void *arg, const char *want_trace,
                    const void *want_output, size_t want_output_size);

/* The usual case: one application, one wire, one input, and the peer says FIN at the end when
 * `eof`. */
typedef struct {
    const char *name, *script;
    const char *input;
    size_t input_size; /* 0: strlen */
    const char *trace, *output;
    size_t output_size; /* 0: strlen */
    bool eof;
} simple_case;

void check_simple(const simple_case *c);

#endif
