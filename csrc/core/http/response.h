/* What a response is before it has a wire format: status, what its headers say, what its body may
 * be. */
#ifndef CD_RESPONSE_H
#define CD_RESPONSE_H

#include "http/stream.h"

/* Header fields that are not simply passed on. */
enum cd_field {
    CD_FIELD_PLAIN,
    CD_FIELD_DROPPED, /* the server's own to say, in every version of HTTP */
    CD_FIELD_HOP, /* about one connection of HTTP/1: HTTP/2 has no such thing (RFC 9113, 8.2.2) */
    CD_FIELD_LENGTH,
    CD_FIELD_CONNECTION,
    CD_FIELD_DATE,
    CD_FIELD_SERVER,
};

enum cd_field cd_response_field(cd_str name);

/* What the application's headers say about the response, and how many bytes those that go out
 * have. */
typedef struct {
    size_t size, count;
    uint64_t length;
    bool has_length, has_date, has_server, close;
} cd_survey;

/* CD_OK or CD_FRAMING. */
int cd_response_survey(cd_survey *v, const cd_header *headers, size_t count);

/* May the response be started so? CD_OK, CD_ORDER, CD_STATUS. */
int cd_response_check(const cd_stream *s, int status);

/* The response has begun: what status and headers say of the body goes into the stream. */
void cd_response_begin(cd_stream *s, int status, const cd_survey *v);

/* A first write of n bytes: the only one has a length if the application told none. */
void cd_response_first_write(cd_stream *s, size_t n, bool more);

/* Will trailers go out? They were announced, there is a body for them to follow, and the client
 * says that it reads them (RFC 9110, 6.5.1). */
bool cd_response_has_trailers(const cd_stream *s);

/* Does a piece of n bytes fit into what the Content-Length has left? A log line when not. */
bool cd_response_fits(cd_stream *s, size_t n, bool more);

/* A log line: the application ended too early, or took longer than http_timeout. */
void cd_response_log_unfinished(cd_stream *s);
void cd_response_log_timeout(cd_stream *s);
/* The peer may not send on, because the application has not taken `unread` bytes. Does the
 * application wait for the peer, too, to read the `unsent` ones? Then one log line for the
 * stream. */
void cd_response_log_stuck(cd_stream *s, size_t unread, size_t unsent);
/* The one line about a request that is refused with this status, whatever its protocol. */
void cd_response_log_refusal(cd_conn *c, int status, const cd_refusal *refusal);

/* The standard reason phrase, "" for an unknown status. */
const char *cd_response_reason(int status);

/* A part of a file, for a chunk of which only the length is known. */
typedef struct {
    int fd;
    uint64_t offset;
} cd_file_part;

enum { CD_NUMBER_ROOM = 20 }; /* digits of the largest uint64_t */

/* Writes a decimal number, CD_NUMBER_ROOM digits at most; returns its end. No snprintf: it alone
 * would cost a tenth of a small request. */
uint8_t *cd_response_put_number(uint8_t *to, uint64_t number);

#endif
