/*
 * Output that waits to be written, in order. Small bytes are copied into one buffer, large ones
 * stay pinned in the application's memory, and parts of files stay files. A connection has one
 * output, and so has every HTTP/2 stream. The struct is embedded in its owner. It owns the copies,
 * the table of pieces and the descriptors; tokens go back to the server.
 */
#ifndef CD_OUTPUT_H
#define CD_OUTPUT_H

#include "base/buf.h"
#include "cdaphne.h"

#include <sys/types.h>
#include <sys/uio.h>

/* A piece of output outside the copy buffer: pinned bytes, or n bytes of a file. */
typedef struct {
    const uint8_t *p; /* NULL: the piece is of a file */
    size_t n;
    /* bytes of the copy buffer that are written between the previous piece and this one */
    size_t before;
    void *token;     /* the token of pinned bytes */
    uint64_t offset; /* where the piece begins in the file; it grows as n shrinks */
    int fd;          /* the file; closed together with the piece */
} cd_piece;

typedef struct {
    cd_buf copy;      /* the bytes that were copied */
    cd_piece *pieces; /* a table; the pieces in [head, tail) wait */
    size_t head, tail, room;
    size_t copy_tail; /* bytes of `copy` that follow the last piece */
    size_t size;      /* all bytes not yet written, copied, pinned and of files */
} cd_output;

/* Drops what waits: releases the tokens and closes the files. The output is empty and usable
 * afterwards. */
void cd_output_dispose(cd_output *o, cd_server *server);

/* Only closes the files that wait: for cd_server_forsake. */
void cd_output_forsake(const cd_output *o);

/* Returns room for n bytes, to be filled in place before cd_output_commit. NULL: no memory. */
uint8_t *cd_output_reserve(cd_output *o, size_t n);
void cd_output_commit(cd_output *o, size_t n);

/* Queues a chunk that has a token; its bytes stay pinned until they are written or dropped.
 * CD_NOMEM: the chunk was not taken. */
int cd_output_pin(cd_output *o, cd_server *server, cd_chunk chunk);

/* Queues count (> 0) bytes of a file and owns fd from here on. CD_NOMEM: the file was not taken. */
int cd_output_file(cd_output *o, int fd, uint64_t offset, size_t count);

/* Describes the first bytes that wait in at most `most` vectors and returns how many it filled. It
 * stops at a file: 0 when a file is first. */
int cd_output_gather(const cd_output *o, struct iovec *iov, int most);

/* Returns the file that is first in the output. NULL: bytes are first, or nothing waits. */
const cd_piece *cd_output_front_file(const cd_output *o);

/* Reads the first bytes, at most n, of a piece that is a file, and does not consume them. Returns
 * how many; 0: the file has become shorter than the piece; CD_SYSTEM: errno. */
ssize_t cd_piece_read(const cd_piece *piece, void *to, size_t n);

/* Copies the first n bytes to `to` and removes them; at least n bytes must wait. Returns CD_OK, or
 * CD_SYSTEM when a file among them has become shorter or cannot be read. */
int cd_output_take(cd_output *o, cd_server *server, uint8_t *to, size_t n);

/* Removes the first n bytes, which have been written. */
void cd_output_consume(cd_output *o, cd_server *server, size_t n);

#endif
