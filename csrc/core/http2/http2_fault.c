/*
 * http2_fault.c - what the log says when HTTP/2 ends a stream or a connection for a fault of the
 * peer's.
 *
 * A client sees a number: RST_STREAM or GOAWAY with an error code. The operator gets the reason, in
 * one line. A stream's is written where the fault is found, at DEBUG, because a client may have a
 * hundred of them a second; a connection's, at INFO, when its GOAWAY is sent: all of them pass
 * there, ours and those that nghttp2 decides on by itself, which come with a text of nghttp2's.
 *
 * What our application did (INTERNAL_ERROR) and orderly ends are not faults. A request that is
 * refused with a status has the line that it has in HTTP/1 (cd_response_log_refusal).
 */
#include "http2/http2.h"

#include "base/escape.h"

#include <string.h>

static void log_stream(cd_http2 *h, uint32_t code, const char *why, cd_str said)
{
    cd_conn_log(h->conn, CD_DEBUG_LEVEL, "Stream of %s reset with %s%s%s%s%.*s%s",
                cd_conn_peer(h->conn), nghttp2_http2_strerror(code), why != NULL ? ": " : "",
                why != NULL ? why : "", said.p != NULL ? ": '" : "", cd_log_width(said),
                said.p != NULL ? said.p : "", said.p != NULL ? "'" : "");
}

static void note_told(cd_http2 *h, int32_t id)
{
    int age = cd_http2_age(h, id);
    if (age >= 0)
        h->told |= (uint64_t)1 << age;
}

static bool was_told(const cd_http2 *h, int32_t id)
{
    int age = cd_http2_age(h, id);
    return age >= 0 && (h->told >> age & 1);
}

void cd_http2_explain(cd_http2 *h, int32_t id, uint32_t code, const cd_refusal *refusal)
{
    if (was_told(h, id))
        return;
    note_told(h, id);
    log_stream(h, code, refusal->why, refusal->said);
}

/* "...: frame type: 1, stream: 1, name: [x], value: [y]": the value must not be logged. */
void cd_http2_note_detail(cd_http2 *h, const char *text, size_t n)
{
    static const char mark[] = ", name: [";
    const char *name = memmem(text, n, mark, sizeof mark - 1);
    const char *end = name != NULL ? memchr(name, ']', n - (size_t)(name - text)) : NULL;
    size_t size = end != NULL ? (size_t)(end - name) - (sizeof mark - 1) : 0;
    if (size >= sizeof h->detail)
        size = sizeof h->detail - 1;
    if (size > 0)
        memcpy(h->detail, name + sizeof mark - 1, size);
    h->detail[size] = '\0';
}

/* Other errors end the connection. */
void cd_http2_explain_frame(cd_http2 *h, int32_t id, int error)
{
    bool window = error == NGHTTP2_ERR_FLOW_CONTROL;
    bool head = error == NGHTTP2_ERR_HTTP_HEADER || error == NGHTTP2_ERR_HTTP_MESSAGING;
    size_t n = head ? strlen(h->detail) : 0;
    cd_refusal refusal = {nghttp2_strerror(error), {n > 0 ? h->detail : NULL, n}};
    if (id != 0 && (window || head))
        cd_http2_explain(h, id, window ? NGHTTP2_FLOW_CONTROL_ERROR : NGHTTP2_PROTOCOL_ERROR,
                         &refusal);
    h->detail[0] = '\0';
}

static void log_connection(cd_http2 *h, const nghttp2_goaway *goaway)
{
    cd_str said = {(const char *)goaway->opaque_data, goaway->opaque_data_len};
    const char *code = nghttp2_http2_strerror(goaway->error_code);
    if (h->why != NULL)
        cd_conn_log(h->conn, CD_INFO, "Connection of %s closed with %s: %s", cd_conn_peer(h->conn),
                    code, h->why);
    else
        cd_conn_log(h->conn, CD_INFO, "Connection of %s closed with %s%s%.*s",
                    cd_conn_peer(h->conn), code, said.n > 0 ? ": " : "", cd_log_width(said),
                    said.n > 0 ? said.p : "");
}

/* Codes that nghttp2 itself sends; every other RST_STREAM was explained where it was made. */
static bool is_of_nghttp2(uint32_t code)
{
    return code == NGHTTP2_PROTOCOL_ERROR || code == NGHTTP2_FLOW_CONTROL_ERROR ||
           code == NGHTTP2_STREAM_CLOSED || code == NGHTTP2_FRAME_SIZE_ERROR;
}

void cd_http2_explain_sent(cd_http2 *h, const nghttp2_frame *frame)
{
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
        log_connection(h, &frame->goaway);
    else if (frame->hd.type == NGHTTP2_RST_STREAM && is_of_nghttp2(frame->rst_stream.error_code))
        cd_http2_explain(h, frame->hd.stream_id, frame->rst_stream.error_code,
                         &(cd_refusal){.why = NULL});
}
