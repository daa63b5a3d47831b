/* A response before it has a wire format: its status, what its headers say, and which body it may
 * have. */
#ifndef CD_RESPONSE_H
#define CD_RESPONSE_H

#include "http/stream.h"

/* Kinds of header fields; all but CD_FIELD_PLAIN need special care. */
enum cd_field {
    CD_FIELD_PLAIN,
    CD_FIELD_DROPPED, /* only the server may set it, in every version of HTTP */
    /* it concerns one connection of HTTP/1; HTTP/2 has no such fields (RFC 9113, 8.2.2) */
    CD_FIELD_HOP,
    CD_FIELD_LENGTH,
    CD_FIELD_CONNECTION,
    CD_FIELD_DATE,
    CD_FIELD_SERVER,
};

enum cd_field cd_response_field(cd_str name);

/* What the application's headers say about the response, and the number and size of those that are
 * sent. */
typedef struct {
    size_t size, count;
    uint64_t length;
    bool has_length, has_date, has_server, close;
} cd_survey;

/* Reads the application's headers. Returns CD_OK or CD_FRAMING. */
int cd_response_survey(cd_survey *v, const cd_header *headers, size_t count);

/* May the response be started with this status? Returns CD_OK, CD_ORDER or CD_STATUS. */
int cd_response_check(const cd_stream *s, int status);

/* Begins the response: stores in the stream what status and headers say about the body. */
void cd_response_begin(cd_stream *s, int status, const cd_survey *v);

/* Notes the first write, of n bytes. If it is the only one and the application gave no length, n
 * becomes the Content-Length. */
void cd_response_first_write(cd_stream *s, size_t n, bool more);

/* Will trailers be sent? They must have been announced, there must be a body before them, and the
 * client must accept them (RFC 9110, 6.5.1). */
bool cd_response_has_trailers(const cd_stream *s);

/* Does a piece of n bytes fit into what is left of the Content-Length? If not, a log line says
 * so. */
bool cd_response_fits(cd_stream *s, size_t n, bool more);

/* Logs that the application ended too early, or took longer than http_timeout. */
void cd_response_log_unfinished(cd_stream *s);
void cd_response_log_timeout(cd_stream *s);
/* Called when the peer may not send on because the application has not taken `unread` bytes. If the
 * application in turn waits for the peer to read the `unsent` bytes, neither can go on: one log
 * line for the stream says so. */
void cd_response_log_stuck(cd_stream *s, size_t unread, size_t unsent);
/* Logs that a request is refused with this status: one line, the same for every protocol. */
void cd_response_log_refusal(cd_conn *c, int status, const cd_refusal *refusal);

/* Returns the standard reason phrase, or "" for an unknown status. */
const char *cd_response_reason(int status);

/* Where the bytes of a chunk are that has a length but no pointer: in a file. */
typedef struct {
    int fd;
    uint64_t offset;
} cd_file_part;

enum { CD_NUMBER_ROOM = 20 }; /* digits of the largest uint64_t */

/* Writes a decimal number of at most CD_NUMBER_ROOM digits and returns its end. snprintf alone
 * would cost a tenth of a small request. */
uint8_t *cd_response_put_number(uint8_t *to, uint64_t number);

#endif
