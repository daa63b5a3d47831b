/*
 * upcalls.c - the queues of log lines and of tokens on their way back to the bridge.
 *
 * Lines and tokens are queued because they end in callbacks, and those belong to dispatch; both
 * are made in the poll phase too. A token's place in the queue is reserved when the token comes in
 * (cd_server_reserve_release), so that giving it back cannot fail. A line for which there is no
 * memory is lost.
 *
 * The other callbacks belong to a stream and are posted by stream.c.
 */
#include "net/upcalls.h"

#include "base/escape.h"
#include "base/mem.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- tokens on their way back ---- */

int cd_server_reserve_release(cd_server *server)
{
    if (server->releases_reserved == server->release_size) {
        size_t size = server->release_size ? 2 * server->release_size : 64;
        void **releases = cd_realloc(server->releases, size * sizeof *releases);
        if (releases == NULL)
            return CD_NOMEM;
        server->releases = releases;
        server->release_size = size;
    }
    server->releases_reserved++;
    return CD_OK;
}

void cd_server_release(cd_server *server, void *token)
{
    if (token == NULL) {
        server->releases_reserved--;
        return;
    }
    server->releases[server->release_count++] = token;
    cd_job_post(server->loop, &server->release_job);
}

static void on_release_job(cd_job *job)
{
    cd_server *server = cd_container(job, cd_server, release_job);
    while (server->release_count > 0) {
        void *token = server->releases[--server->release_count];
        server->releases_reserved--;
        server->ops->release(server->data, token);
    }
}

/* ---- log lines ---- */

typedef struct {
    void *data; /* of the stream; NULL: the line is about none */
    enum cd_level level;
    size_t n;
} line_head;

void cd_server_put_line(cd_server *server, void *data, enum cd_level level, const char *format,
                        va_list args)
{
    char raw[512], line[4 * sizeof raw];
    int n = vsnprintf(raw, sizeof raw, format, args);
    if (n < 0)
        return;
    size_t length = (size_t)n < sizeof raw ? (size_t)n : sizeof raw - 1;
    line_head head = {data, level, cd_escape(line, raw, length)};
    uint8_t *room = cd_buf_reserve(&server->lines, sizeof head + head.n);
    if (room == NULL)
        return;
    memcpy(room, &head, sizeof head);
    memcpy(room + sizeof head, line, head.n);
    cd_buf_commit(&server->lines, sizeof head + head.n);
    cd_job_post(server->loop, &server->line_job);
}

void cd_server_log(cd_server *server, enum cd_level level, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    cd_server_put_line(server, NULL, level, format, args);
    va_end(args);
}

void cd_server_tell_lines(cd_server *server)
{
    cd_buf lines = server->lines;
    cd_buf_init(&server->lines);
    while (cd_buf_length(&lines) > 0) {
        line_head head;
        memcpy(&head, cd_buf_data(&lines), sizeof head);
        cd_str line = {(const char *)cd_buf_data(&lines) + sizeof head, head.n};
        server->ops->on_log(server->data, head.data, head.level, line);
        cd_buf_consume(&lines, sizeof head + head.n);
    }
}

static void on_line_job(cd_job *job)
{
    cd_server_tell_lines(cd_container(job, cd_server, line_job));
}

/* ---- life ---- */

void cd_upcalls_init(cd_server *server)
{
    cd_job_init(&server->release_job, on_release_job);
    cd_job_init(&server->line_job, on_line_job);
}

void cd_upcalls_dispose(cd_server *server)
{
    cd_job_cancel(&server->release_job);
    cd_job_cancel(&server->line_job);
    cd_buf_dispose(&server->lines);
    cd_free(server->releases);
}
