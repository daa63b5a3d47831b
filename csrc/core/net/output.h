/*
 * Output that waits to be written, in order: small bytes copied together, large ones pinned where
 * the application has them, and parts of files. A connection has one, and so has every HTTP/2
 * stream. The struct is embedded; copies, the table of pieces and the descriptors are its own,
 * tokens go back to the server.
 */
#ifndef CD_OUTPUT_H
#define CD_OUTPUT_H

#include "base/buf.h"
#include "cdaphne.h"

#include <sys/types.h>
#include <sys/uio.h>

/* A piece outside the copy buffer: pinned bytes, or n bytes of a file. */
typedef struct {
    const uint8_t *p; /* NULL: of the file */
    size_t n;
    /* bytes of the copy buffer that go out between the piece before this one and this one */
    size_t before;
    void *token;     /* of pinned bytes */
    uint64_t offset; /* in the file; moves on as n goes down */
    int fd;          /* closed with the piece */
} cd_piece;

typedef struct {
    cd_buf copy;      /* small output, copied */
    cd_piece *pieces; /* large output: those from head to tail wait */
    size_t head, tail, room;
    size_t copy_tail; /* bytes of `copy` behind the last piece */
    size_t size;      /* bytes not yet written, of all kinds */
} cd_output;

/* Drops what waits; tokens are released, files closed. Empty and usable afterwards. */
void cd_output_dispose(cd_output *o, cd_server *server);

/* Closes the files that wait and does nothing else: for cd_server_forsake. */
void cd_output_forsake(const cd_output *o);

/* Room for n bytes to be filled in place, then cd_output_commit. NULL: no memory. */
uint8_t *cd_output_reserve(cd_output *o, size_t n);
void cd_output_commit(cd_output *o, size_t n);

/* Queues a chunk that has a token: pinned until written or disposed. CD_NOMEM: not taken. */
int cd_output_pin(cd_output *o, cd_server *server, cd_chunk chunk);

/* Queues count (> 0) bytes of a file and owns fd from here on. CD_NOMEM: not taken. */
int cd_output_file(cd_output *o, int fd, uint64_t offset, size_t count);

/* The first bytes that wait, as at most `most` vectors; returns how many. Stops at a file: 0 when
 * one stands in front. */
int cd_output_gather(const cd_output *o, struct iovec *iov, int most);

/* The file that stands in front; NULL: bytes do, or nothing. */
const cd_piece *cd_output_front_file(const cd_output *o);

/* The first bytes, at most n, of a piece that is a file. 0: it has become shorter than the piece;
 * CD_SYSTEM: errno. Does not consume. */
ssize_t cd_piece_read(const cd_piece *piece, void *to, size_t n);

/* Copies the first n bytes, which wait, and takes them off. CD_OK, or CD_SYSTEM: a file among them
 * has become shorter or cannot be read. */
int cd_output_take(cd_output *o, cd_server *server, uint8_t *to, size_t n);

/* Takes n written bytes off the front. */
void cd_output_consume(cd_output *o, cd_server *server, size_t n);

#endif
