/*
 * Output that waits to be written, in order: small bytes copied together, large ones pinned where
 * the application has them. A connection has one, and so has every HTTP/2 stream. The struct is
 * embedded; copies and the table of pieces are its own, tokens go back to the server.
 */
#ifndef CD_OUTPUT_H
#define CD_OUTPUT_H

#include "buf.h"
#include "cdaphne.h"

#include <sys/uio.h>

/* A pinned piece, outside the copy buffer. */
typedef struct {
    const uint8_t *p;
    size_t n;
    size_t before; /* bytes of the copy buffer that go out between the piece before this one and
                      this one */
    void *token;
} cd_piece;

typedef struct {
    cd_buf copy;      /* small output, copied */
    cd_piece *pieces; /* large output, pinned: those from head to tail wait */
    size_t head, tail, room;
    size_t copy_tail; /* bytes of `copy` behind the last piece */
    size_t size;      /* bytes not yet written, both kinds */
} cd_output;

/* Drops what waits; the tokens are released. Empty and usable afterwards. */
void cd_output_dispose(cd_output *o, cd_server *server);

/* Room for n bytes to be filled in place, then cd_output_commit. NULL: no memory. */
uint8_t *cd_output_reserve(cd_output *o, size_t n);
void cd_output_commit(cd_output *o, size_t n);

/* Queues a chunk that has a token: pinned until written or disposed. CD_NOMEM: not taken. */
int cd_output_pin(cd_output *o, cd_server *server, cd_chunk chunk);

/* The first bytes that wait, as at most `most` vectors; returns how many. */
int cd_output_gather(const cd_output *o, struct iovec *iov, int most);

/* Takes n written bytes off the front. */
void cd_output_consume(cd_output *o, cd_server *server, size_t n);

#endif
