/*
 * conn.c - between a transport and a protocol: reading, writing, back-pressure, one deadline, and
 * an orderly end.
 *
 * Input goes through the loop's scratch buffer straight into the protocol; only what the protocol
 * cannot take yet (pipelined requests behind one that is being answered) is kept here, up to
 * read_ahead_size. Reading stays armed while an application computes, because that is how a
 * client's leaving is noticed.
 *
 * Output is a queue of bytes in order: small ones copied together, large ones pinned where the
 * application has them, parts of files. Everything queued in a turn leaves in one sendmsg; a file
 * by the transport's sendfile, or where there is none by reads into a buffer of the loop. Both may
 * wait for a disk, and the loop waits with them, as nginx's does without aio. A connection that
 * waits for its peer to read looks every write_timeout whether the peer took at least
 * write_min_rate, and gives it up if not.
 *
 * An end is either an abort (transport closed with a reset, output lost) or a close: write the
 * rest, say FIN, and if the peer may still be sending wait for its FIN, because closing a socket
 * with unread input makes the kernel send a reset that can destroy the response on its way (RFC
 * 9112, 9.6). A slow upload that was answered early may go on for a while, bounded in time and
 * bytes. The struct itself is freed by its job, in dispatch: whoever is up the stack may still
 * look at `state`.
 */
#include "net/conn.h"

#include "base/mem.h"
#include "net/upcalls.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum {
    IOV_COUNT = 64,
    /* Bytes of one read: a slow application can get this much beyond the high-water mark. */
    READ_SIZE = 65536,
    /* How many times write_high_water is gathered for a peer that keeps up: the kernel takes 512 KB
     * at once in two thirds of the time that it needs for eight times 64 KB. */
    GATHER = 8,
    /* Bytes that a stream may send before the others get their turn; also bytes of files. */
    TURN_SHARE = 1 << 20,
    /* Bytes of a file that are read at once where there is no sendfile: four TLS records. */
    FILE_READ = 65536,
};

static void flush(cd_conn *c);

/* ---- arming ---- */

static void arm(cd_conn *c)
{
    bool reading = (c->state == CD_CONN_OPEN && c->want_read && !c->full && !c->ended) ||
                   (c->state == CD_CONN_LINGER);
    unsigned events = (reading ? CD_READ : 0u) | (c->blocked ? CD_WRITE : 0u);
    if (events == c->armed || c->state == CD_CONN_CLOSED)
        return;
    c->armed = events & 3u;
    c->transport->ops->want(c->transport, (int)events);
}

static void set_timer(cd_conn *c)
{
    double first = c->deadline;
    if (c->write_check != 0 && (first == 0 || c->write_check < first))
        first = c->write_check;
    if (first == 0)
        cd_timer_stop(&c->timer);
    else
        cd_timer_set(&c->timer, first > cd_loop_now(c->loop) ? first - cd_loop_now(c->loop) : 1e-3);
}

void cd_conn_deadline(cd_conn *c, double seconds)
{
    c->deadline = seconds > 0 ? cd_loop_now(c->loop) + seconds : 0;
    set_timer(c);
}

/* ---- the end ---- */

static void end(cd_conn *c, bool reset)
{
    if (c->state == CD_CONN_CLOSED)
        return;
    c->state = CD_CONN_CLOSED;
    c->protocol->close(c);
    c->transport->ops->close(c->transport, reset);
    c->transport = NULL;
    cd_timer_dispose(&c->timer);
    cd_output_dispose(&c->out, c->server);
    cd_job_cancel(&c->flush);
    cd_job_cancel(&c->job);
    cd_job_post(c->loop, &c->job);
}

static void free_protocol(cd_conn *c)
{
    if (c->protocol->free != NULL)
        c->protocol->free(c);
}

void cd_conn_become(cd_conn *c, const cd_protocol_ops *protocol, void *self)
{
    free_protocol(c);
    c->protocol = protocol;
    c->self = self;
}

static void dispose(cd_conn *c)
{
    cd_server *server = c->server;
    bool counted = !c->tunnel;
    cd_buf_dispose(&c->in);
    cd_server_release(server, c->cache);
    cd_list_remove(&c->link);
    cd_free(c->proxied);
    free_protocol(c);
    cd_free(c);
    CD_LIVE(connections, -1);
    if (counted)
        server->conn_closed(server);
}

/* n bytes came that will be dropped: the peer gets more time, up to a limit. */
static void linger_on(cd_conn *c, size_t n)
{
    const cd_limits *limits = &c->server->limits;
    double left = c->linger_end - cd_loop_now(c->loop);
    c->lingered += n;
    if (left <= 0 || c->lingered > limits->linger_size)
        end(c, false);
    else
        cd_conn_deadline(c, left < limits->linger_timeout ? left : limits->linger_timeout);
}

static void end_written(cd_conn *c)
{
    const cd_transport_ops *ops = c->transport->ops;
    if (ops->goodbye != NULL && ops->goodbye(c->transport) == CD_AGAIN) {
        c->blocked = 1;
        if (c->deadline == 0)
            cd_conn_deadline(c, c->server->limits.linger_timeout);
        arm(c);
        return;
    }
    if (!c->linger || c->ended || c->server->limits.linger_timeout == 0) {
        end(c, false);
        return;
    }
    c->state = CD_CONN_LINGER;
    ops->shutdown(c->transport);
    c->linger_end = cd_loop_now(c->loop) + c->server->limits.linger_total;
    linger_on(c, 0);
    arm(c);
}

void cd_conn_flush_later(cd_conn *c)
{
    cd_job_flush(c->loop, &c->flush);
}

void cd_conn_close(cd_conn *c, bool linger)
{
    if (c->state != CD_CONN_OPEN)
        return;
    c->state = CD_CONN_CLOSING;
    c->linger = linger;
    c->deadline = 0;
    set_timer(c);
    arm(c);
    cd_conn_flush_later(c);
}

void cd_conn_abort(cd_conn *c)
{
    end(c, true);
}

/* ---- reading ---- */

/* Offers bytes to the protocol. The bytes that it left must go to c->in; more than read_ahead_size
 * of them stop the reading. */
static size_t feed(cd_conn *c, const uint8_t *p, size_t n)
{
    size_t used = c->protocol->input(c, p, n);
    return c->state == CD_CONN_OPEN ? used : n;
}

static void check_full(cd_conn *c)
{
    c->full = cd_buf_length(&c->in) >= c->server->limits.read_ahead_size;
    arm(c);
}

static void keep(cd_conn *c, const uint8_t *p, size_t n)
{
    if (cd_buf_append(&c->in, p, n) < 0)
        cd_conn_abort(c);
    else
        check_full(c);
}

static void on_end_of_file(cd_conn *c, bool reset)
{
    c->ended = 1;
    if (c->state == CD_CONN_OPEN)
        c->protocol->eof(c, reset);
    else
        end(c, false);
    arm(c);
}

static void read_input(cd_conn *c)
{
    size_t most = c->large_reads ? CD_SCRATCH_SIZE : READ_SIZE;
    ssize_t n = c->transport->ops->read(c->transport, c->loop->scratch, most);
    if (n == CD_AGAIN)
        return;
    if (n <= 0) {
        on_end_of_file(c, n < 0);
        return;
    }
    if (c->state != CD_CONN_OPEN) {
        linger_on(c, (size_t)n);
        return;
    }
    size_t used = 0;
    if (cd_buf_length(&c->in) == 0)
        used = feed(c, c->loop->scratch, (size_t)n);
    if (used < (size_t)n && c->state == CD_CONN_OPEN)
        keep(c, c->loop->scratch + used, (size_t)n - used);
}

static void resume(cd_conn *c)
{
    if (c->state != CD_CONN_OPEN)
        return;
    size_t length = cd_buf_length(&c->in);
    if (length > 0) {
        size_t used = feed(c, cd_buf_data(&c->in), length);
        cd_buf_consume(&c->in, used);
    }
    if (length > 0 && c->ended && c->state == CD_CONN_OPEN)
        c->protocol->eof(c, false);
    check_full(c);
}

static void on_job(cd_job *job)
{
    cd_conn *c = cd_container(job, cd_conn, job);
    if (c->state == CD_CONN_CLOSED)
        dispose(c);
    else
        resume(c);
}

bool cd_conn_broken(cd_conn *c)
{
    return c->transport->ops->broken != NULL && c->transport->ops->broken(c->transport);
}

void cd_conn_resume(cd_conn *c)
{
    cd_job_post(c->loop, &c->job);
}

void cd_conn_resume_later(cd_conn *c)
{
    cd_job_defer(c->loop, &c->job);
}

void cd_conn_want_read(cd_conn *c, bool on)
{
    c->want_read = on;
    arm(c);
}

void cd_conn_on_io(cd_conn *c, int events)
{
    c->loop->seen++;
    if (events & CD_WRITE)
        flush(c);
    if ((events & CD_READ) && (c->armed & CD_READ) && c->state != CD_CONN_CLOSED)
        read_input(c);
}

/* ---- writing ---- */

uint8_t *cd_conn_reserve(cd_conn *c, size_t n)
{
    return cd_output_reserve(&c->out, n);
}

void cd_conn_commit(cd_conn *c, size_t n)
{
    cd_output_commit(&c->out, n);
    cd_conn_flush_later(c);
}

int cd_conn_put(cd_conn *c, const void *p, size_t n)
{
    if (n == 0)
        return CD_OK;
    uint8_t *room = cd_conn_reserve(c, n);
    if (room == NULL)
        return CD_NOMEM;
    memcpy(room, p, n);
    cd_conn_commit(c, n);
    return CD_OK;
}

int cd_conn_put_chunk(cd_conn *c, cd_chunk chunk)
{
    if (chunk.token == NULL)
        return cd_conn_put(c, chunk.p, chunk.n);
    if (cd_output_pin(&c->out, c->server, chunk) < 0)
        return CD_NOMEM;
    cd_conn_flush_later(c);
    return CD_OK;
}

int cd_conn_put_file(cd_conn *c, int fd, uint64_t offset, size_t count)
{
    if (cd_output_file(&c->out, fd, offset, count) < 0)
        return CD_NOMEM;
    cd_conn_flush_later(c);
    return CD_OK;
}

int cd_conn_pressure(cd_conn *c)
{
    if (c->out.size < c->server->limits.write_high_water)
        return CD_OK;
    c->above_high_water = 1;
    return CD_AGAIN;
}

void cd_conn_push(cd_conn *c, size_t waiting)
{
    c->taken_at_once += waiting;
    if (c->taken_at_once > TURN_SHARE) {
        c->taken_at_once = 0;
        c->keeps_up = 1;
    } else if (!c->blocked && c->state == CD_CONN_OPEN) {
        flush(c);
    }
}

int cd_conn_after_write(cd_conn *c)
{
    size_t most = c->server->limits.write_high_water;
    if (c->out.size < most || (c->keeps_up && c->out.size / GATHER < most))
        return CD_OK;
    cd_conn_push(c, c->out.size);
    return c->state == CD_CONN_OPEN ? cd_conn_pressure(c) : CD_OK;
}

static void watch_stall(cd_conn *c)
{
    double span = c->server->limits.write_timeout;
    if (c->out.size == 0)
        c->write_check = 0;
    else if (c->write_check == 0 && span > 0) {
        c->write_check = cd_loop_now(c->loop) + span;
        c->written = 0;
        set_timer(c);
    }
}

static void after_write(cd_conn *c)
{
    watch_stall(c);
    arm(c);
    if (c->above_high_water && c->out.size <= c->server->limits.write_low_water) {
        c->above_high_water = 0;
        if (c->state == CD_CONN_OPEN)
            c->protocol->drained(c);
    }
    if (c->out.size > 0)
        return;
    if (c->state == CD_CONN_CLOSING)
        end_written(c);
    else if (c->state == CD_CONN_OPEN)
        c->protocol->flushed(c);
}

static void write_failed(cd_conn *c)
{
    if (c->state == CD_CONN_OPEN)
        c->protocol->eof(c, true);
    end(c, true);
}

/* The announced bytes of a file cannot be read any more: the response must not look complete. */
static ssize_t file_failed(cd_conn *c, const cd_piece *file, const char *why)
{
    cd_conn_log(c, CD_ERROR, "Connection of %s aborted: a file %s, with %zu bytes still to be sent",
                cd_conn_peer(c), why, file->n);
    return CD_GONE;
}

static ssize_t write_read_file(cd_conn *c, const cd_piece *file)
{
    cd_loop *loop = c->loop;
    if (loop->file == NULL && (loop->file = cd_alloc(FILE_READ)) == NULL)
        return CD_GONE;
    ssize_t n = cd_piece_read(file, loop->file, FILE_READ);
    if (n == 0)
        return file_failed(c, file, "became shorter");
    if (n < 0)
        return file_failed(c, file, strerror(errno));
    struct iovec iov = {loop->file, (size_t)n};
    c->transport->more_follows = (size_t)n < c->out.size;
    return c->transport->ops->writev(c->transport, &iov, 1);
}

static ssize_t write_file(cd_conn *c, const cd_piece *file, size_t most)
{
    const cd_transport_ops *ops = c->transport->ops;
    ssize_t n = CD_SYSTEM;
    if (ops->sendfile != NULL)
        n = ops->sendfile(c->transport, file->fd, file->offset, file->n < most ? file->n : most);
    if (n == CD_SYSTEM)
        return write_read_file(c, file);
    return n == 0 ? file_failed(c, file, "became shorter") : n;
}

static ssize_t write_bytes(cd_conn *c)
{
    struct iovec iov[IOV_COUNT];
    int count = cd_output_gather(&c->out, iov, IOV_COUNT);
    size_t n = 0;
    for (int i = 0; i < count; i++)
        n += iov[i].iov_len;
    c->transport->more_follows = n < c->out.size;
    return c->transport->ops->writev(c->transport, iov, count);
}

/* Lets the protocol add output. */
static void fill(cd_conn *c)
{
    if (c->protocol->fill != NULL && c->state == CD_CONN_OPEN)
        c->protocol->fill(c);
}

static ssize_t write_front(cd_conn *c, size_t left)
{
    const cd_piece *file = cd_output_front_file(&c->out);
    if (left == 0 && (file != NULL || c->protocol->fill != NULL))
        return CD_AGAIN;
    return file != NULL ? write_file(c, file, left) : write_bytes(c);
}

/* Writes as much as the transport takes; but of files, and for a protocol with `fill`, no more than
 * TURN_SHARE bytes: then the transport is found writable in the next turn. */
static void flush(cd_conn *c)
{
    size_t left = TURN_SHARE;
    c->blocked = 0;
    fill(c);
    while (c->out.size > 0 && c->state != CD_CONN_CLOSED) {
        bool counted = c->protocol->fill != NULL || cd_output_front_file(&c->out) != NULL;
        ssize_t n = write_front(c, left);
        if (n == CD_GONE) {
            write_failed(c);
            return;
        }
        if (n == CD_AGAIN) {
            c->blocked = 1;
            c->keeps_up = 0;
            c->taken_at_once = 0;
            break;
        }
        if (counted)
            left -= (size_t)n < left ? (size_t)n : left;
        cd_output_consume(&c->out, c->server, (size_t)n);
        c->written += (size_t)n;
        fill(c);
    }
    if (c->state != CD_CONN_CLOSED)
        after_write(c);
}

static void on_flush(cd_job *job)
{
    flush(cd_container(job, cd_conn, flush));
}

/* ---- the deadline ---- */

static bool stalled(cd_conn *c)
{
    cd_limits *limits = &c->server->limits;
    if ((double)c->written >= limits->write_timeout * (double)limits->write_min_rate &&
        c->written > 0) {
        c->written = 0;
        c->write_check = cd_loop_now(c->loop) + limits->write_timeout;
        return false;
    }
    cd_conn_log(
        c, CD_INFO,
        "Connection of %s closed: it took %llu bytes in %g s, with %zu waiting (--write-timeout)",
        cd_conn_peer(c), (unsigned long long)c->written, limits->write_timeout, c->out.size);
    return true;
}

static void on_deadline(cd_timer *timer)
{
    cd_conn *c = cd_container(timer, cd_conn, timer);
    double now = cd_loop_now(c->loop);
    if (c->write_check != 0 && now >= c->write_check && stalled(c)) {
        if (c->state == CD_CONN_OPEN)
            c->protocol->eof(c, true);
        end(c, true);
        return;
    }
    if (c->deadline != 0 && now >= c->deadline) {
        c->deadline = 0;
        if (c->state == CD_CONN_OPEN)
            c->protocol->timeout(c);
        else /* it lingers, or does not read the transport's last message */
            end(c, false);
    }
    if (c->state != CD_CONN_CLOSED)
        set_timer(c);
}

/* ---- the beginning ---- */

static const cd_addr *put_address(unsigned char *at, const cd_addr *addr)
{
    cd_addr *copy = (cd_addr *)at;
    cd_addr_copy(copy, addr);
    return copy;
}

/* The part of opening that can fail. */
static cd_conn *new_conn(cd_server *server, const cd_addr *client, const cd_addr *local)
{
    size_t to = alignof(cd_addr), first = (cd_addr_size(client) + to - 1) / to * to;
    cd_conn *c = cd_zalloc(sizeof *c + first + cd_addr_size(local));
    if (c == NULL)
        return NULL;
    c->client = put_address(c->addresses, client);
    c->server_addr = put_address(c->addresses + first, local);
    c->server = server;
    c->loop = server->loop;
    cd_timer_init(&c->timer, c->loop, on_deadline);
    c->protocol = server->first_protocol;
    if (c->protocol->open(c) == CD_OK && cd_server_reserve_release(server) == CD_OK)
        return c;
    cd_timer_dispose(&c->timer);
    free_protocol(c);
    cd_free(c);
    return NULL;
}

cd_conn *cd_conn_open(cd_server *server, cd_transport *transport, const cd_addr *client,
                      const cd_addr *local)
{
    cd_conn *c = new_conn(server, client, local);
    if (c == NULL)
        return NULL;
    c->transport = transport;
    c->want_read = 1;
    cd_job_init(&c->flush, on_flush);
    cd_list_append(&server->conns, &c->link);
    server->conn_count++;
    cd_job_init(&c->job, on_job);
    transport->conn = c;
    CD_LIVE(connections, 1);
    arm(c);
    return c;
}

cd_conn *cd_conn_open_tunnel(cd_server *server, cd_transport *transport, const cd_addr *client,
                             const cd_addr *local)
{
    cd_conn *c = cd_conn_open(server, transport, client, local);
    if (c == NULL)
        return NULL;
    c->tunnel = 1;
    server->conn_count--;
    return c;
}

void cd_conn_log(cd_conn *c, enum cd_level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cd_server_put_line(c->server, NULL, level, format, args);
    va_end(args);
}
