/*
 * output.c - a queue of bytes to be written, of three kinds.
 *
 * Heads, frames' headers and small bodies are copied one behind the other into one buffer. A body
 * that is worth it stays where the application has it, as a piece: pointer, length, and the token
 * that is released when it was written. A part of a file is a piece too: descriptor and range; the
 * bytes never stand in a buffer of ours unless the transport wants to see them. A piece knows how
 * many copied bytes go out before it, so the order needs no list of its own, and a queue without
 * pieces costs one buffer.
 *
 * What waits is handed to the transport as vectors and taken off from the front; both give memory
 * back as soon as the queue is empty, because an idle connection shall hold none.
 *
 * How much may wait is the business of whoever fills it.
 */
#include "net/output.h"

#include "base/mem.h"
#include "base/nofile.h"
#include "net/upcalls.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

static void drop_table(cd_output *o)
{
    cd_free(o->pieces);
    o->pieces = NULL;
    o->head = o->tail = o->room = 0;
}

static bool is_file(const cd_piece *piece)
{
    return piece->p == NULL;
}

static void drop_piece(cd_piece *piece, cd_server *server)
{
    if (is_file(piece))
        close(piece->fd);
    else
        cd_server_release(server, piece->token);
    CD_LIVE(chunks, -1);
}

void cd_output_dispose(cd_output *o, cd_server *server)
{
    for (size_t i = o->head; i < o->tail; i++)
        drop_piece(&o->pieces[i], server);
    drop_table(o);
    cd_buf_dispose(&o->copy);
    o->size = o->copy_tail = 0;
}

void cd_output_forsake(const cd_output *o)
{
    for (size_t i = o->head; i < o->tail; i++) {
        if (is_file(&o->pieces[i]))
            close(o->pieces[i].fd);
    }
}

uint8_t *cd_output_reserve(cd_output *o, size_t n)
{
    return cd_buf_reserve(&o->copy, n);
}

void cd_output_commit(cd_output *o, size_t n)
{
    cd_buf_commit(&o->copy, n);
    o->copy_tail += n;
    o->size += n;
}

static int grow(cd_output *o)
{
    size_t used = o->tail - o->head;
    if (o->tail < o->room)
        return CD_OK;
    if (o->head > used) {
        memmove(o->pieces, o->pieces + o->head, used * sizeof *o->pieces);
        o->head = 0;
        o->tail = used;
        return CD_OK;
    }
    size_t room = o->room ? 2 * o->room : 4;
    cd_piece *pieces = cd_realloc(o->pieces, room * sizeof *pieces);
    if (pieces == NULL)
        return CD_NOMEM;
    o->pieces = pieces;
    o->room = room;
    return CD_OK;
}

int cd_output_pin(cd_output *o, cd_server *server, cd_chunk chunk)
{
    if (grow(o) < 0 || cd_server_reserve_release(server) < 0)
        return CD_NOMEM;
    o->pieces[o->tail++] =
        (cd_piece){.p = chunk.p, .n = chunk.n, .before = o->copy_tail, .token = chunk.token};
    o->copy_tail = 0;
    o->size += chunk.n;
    CD_LIVE(chunks, 1);
    return CD_OK;
}

int cd_output_file(cd_output *o, int fd, uint64_t offset, size_t count)
{
    if (grow(o) < 0)
        return CD_NOMEM;
    o->pieces[o->tail++] =
        (cd_piece){.n = count, .before = o->copy_tail, .offset = offset, .fd = cd_nofile_lift(fd)};
    o->copy_tail = 0;
    o->size += count;
    CD_LIVE(chunks, 1);
    return CD_OK;
}

const cd_piece *cd_output_front_file(const cd_output *o)
{
    if (o->head == o->tail)
        return NULL;
    const cd_piece *piece = &o->pieces[o->head];
    return piece->before == 0 && is_file(piece) ? piece : NULL;
}

ssize_t cd_piece_read(const cd_piece *piece, void *to, size_t n)
{
    ssize_t got;
    do
        got = pread(piece->fd, to, n < piece->n ? n : piece->n, (off_t)piece->offset);
    while (got < 0 && errno == EINTR);
    return got < 0 ? CD_SYSTEM : got;
}

int cd_output_gather(const cd_output *o, struct iovec *iov, int most)
{
    int count = 0;
    uint8_t *copy = o->copy.block == NULL ? NULL : cd_buf_data(&o->copy);
    for (size_t i = o->head; i < o->tail; i++) {
        const cd_piece *piece = &o->pieces[i];
        if (count + 2 > most)
            return count;
        if (piece->before > 0) {
            iov[count++] = (struct iovec){copy, piece->before};
            copy += piece->before;
        }
        if (is_file(piece))
            return count;
        iov[count++] = (struct iovec){(void *)piece->p, piece->n};
    }
    if (o->copy_tail > 0 && count < most)
        iov[count++] = (struct iovec){copy, o->copy_tail};
    return count;
}

/* Removes n bytes from the first piece, or as many as it has. False: a part of the piece still
 * waits. */
static bool consume_piece(cd_output *o, cd_server *server, size_t *n)
{
    cd_piece *piece = &o->pieces[o->head];
    size_t copied = cd_least(*n, piece->before);
    size_t whole = cd_least(*n - copied, piece->n);
    cd_buf_consume(&o->copy, copied);
    piece->before -= copied;
    if (is_file(piece))
        piece->offset += whole;
    else
        piece->p += whole;
    piece->n -= whole;
    *n -= copied + whole;
    if (piece->before > 0 || piece->n > 0)
        return false;
    drop_piece(piece, server);
    o->head++;
    return true;
}

void cd_output_consume(cd_output *o, cd_server *server, size_t n)
{
    o->size -= n;
    while (o->head < o->tail) {
        if (!consume_piece(o, server, &n))
            return;
    }
    if (o->room > 0)
        drop_table(o);
    if (n > 0) {
        cd_buf_consume(&o->copy, n);
        o->copy_tail -= n;
    }
}

/* Returns as many of the first n bytes as are adjacent in memory. */
static ssize_t copy_front(const cd_output *o, uint8_t *to, size_t n)
{
    struct iovec iov[2];
    const cd_piece *file = cd_output_front_file(o);
    if (file != NULL)
        return cd_piece_read(file, to, n);
    cd_output_gather(o, iov, 2);
    n = cd_least(iov[0].iov_len, n);
    memcpy(to, iov[0].iov_base, n);
    return (ssize_t)n;
}

int cd_output_take(cd_output *o, cd_server *server, uint8_t *to, size_t n)
{
    while (n > 0) {
        ssize_t taken = copy_front(o, to, n);
        if (taken <= 0)
            return CD_SYSTEM;
        cd_output_consume(o, server, (size_t)taken);
        to += taken;
        n -= (size_t)taken;
    }
    return CD_OK;
}
