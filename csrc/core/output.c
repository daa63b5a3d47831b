/*
 * output.c - a queue of bytes to be written, of two kinds.
 *
 * Heads, frames' headers and small bodies are copied one behind the other into one buffer. A body
 * that is worth it stays where the application has it, as a piece: pointer, length, and the token
 * that is released when it was written. A piece knows how many copied bytes go out before it, so
 * the order needs no list of its own, and a queue without pieces costs one buffer.
 *
 * What waits is handed to the transport as vectors and taken off from the front; both give memory
 * back as soon as the queue is empty, because an idle connection shall hold none.
 *
 * How much may wait is the business of whoever fills it.
 */
#include "output.h"

#include "mem.h"
#include "server.h"

#include <string.h>

static void drop_table(cd_output *o)
{
    cd_free(o->pieces);
    o->pieces = NULL;
    o->head = o->tail = o->room = 0;
}

void cd_output_dispose(cd_output *o, cd_server *server)
{
    for (size_t i = o->head; i < o->tail; i++)
        cd_server_release(server, o->pieces[i].token);
    CD_LIVE(chunks, -(long)(o->tail - o->head));
    drop_table(o);
    cd_buf_dispose(&o->copy);
    o->size = o->copy_tail = 0;
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
    if (grow(o) < 0 || cd_server_expect_release(server) < 0)
        return CD_NOMEM;
    o->pieces[o->tail++] =
        (cd_piece){.p = chunk.p, .n = chunk.n, .before = o->copy_tail, .token = chunk.token};
    o->copy_tail = 0;
    o->size += chunk.n;
    CD_LIVE(chunks, 1);
    return CD_OK;
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
        iov[count++] = (struct iovec){(void *)piece->p, piece->n};
    }
    if (o->copy_tail > 0 && count < most)
        iov[count++] = (struct iovec){copy, o->copy_tail};
    return count;
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Takes n bytes, or as many as belong to it, off the first piece. False: some of it still waits. */
static bool consume_piece(cd_output *o, cd_server *server, size_t *n)
{
    cd_piece *piece = &o->pieces[o->head];
    size_t copied = least(*n, piece->before);
    size_t pinned = least(*n - copied, piece->n);
    cd_buf_consume(&o->copy, copied);
    piece->before -= copied;
    piece->p += pinned;
    piece->n -= pinned;
    *n -= copied + pinned;
    if (piece->before > 0 || piece->n > 0)
        return false;
    cd_server_release(server, piece->token);
    CD_LIVE(chunks, -1);
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
