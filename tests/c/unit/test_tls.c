/*
 * tls.c and its companions under a real client whose bytes are cut in every way: record boundaries,
 * what OpenSSL holds back, the ends, tickets, and memory that runs out.
 */
#include "tls/tls.h"
#include "tls_client.h"

#include <openssl/crypto.h>
#include <openssl/x509.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

static const char *const one[] = {"one.test", NULL};
static const char *const several[] = {"one.test", "*.wild.test", "exact.wild.test", NULL};
static const char get[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
static const char hello[] = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

/* ---- OpenSSL's memory: an allocation that fails, only while the server is running ---- */

static long fail_at, allocations;

static bool fails(void)
{
    return tls_server_runs && fail_at > 0 && ++allocations == fail_at;
}

static void *take(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return fails() ? NULL : malloc(n);
}

static void *take_again(void *p, size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return fails() ? NULL : realloc(p, n);
}

static void give(void *p, const char *file, int line)
{
    (void)file, (void)line;
    free(p);
}

/* ---- cases in all cuts ---- */

typedef void tls_case(rig *r, cd_tls *tls, int version);

static void in_all_cuts(tls_case *run)
{
    for (unsigned i = 0; i < 6; i++) {
        for (int version = TLS1_2_VERSION; version <= TLS1_3_VERSION; version++) {
            rig *r = rig_new(i == 0 ? CUT_WHOLE : i == 1 ? CUT_BYTES : CUT_RANDOM, i);
            cd_tls *tls = tls_for(several);
            run(r, tls, version);
            rig_settle(r);
            rig_free(r);
            cd_tls_free(tls);
        }
    }
}

static void case_requests(rig *r, cd_tls *tls, int version)
{
    r->script = "body; start 200 content-length: 5; last hello";
    tls_client *t = tls_open(r, tls, "one.test", version);
    tls_text(t, get);
    CHECK_STR(tls_output(t), hello);
    text_free(&t->output);
    tls_send(t, get, sizeof get - 1, 1); /* a record for each byte */
    CHECK_STR(tls_output(t), hello);
    CHECK(!t->failed && !t->said_goodbye && !t->ended);
    CHECK(t->c->transport->secure);
    tls_close(t);
}

static void case_pipeline(rig *r, cd_tls *tls, int version)
{
    text many = {0}, want = {0};
    r->script = "body; start 200 content-length: 5; last hello";
    for (int i = 0; i < 100; i++) {
        text_add(&many, get, sizeof get - 1);
        text_add(&want, hello, sizeof hello - 1);
    }
    tls_client *t = tls_open(r, tls, "one.test", version);
    tls_send(t, many.p, many.n, SIZE_MAX); /* one record, served in several turns */
    CHECK_STR(tls_output(t), want.p);
    tls_close(t);
    text_free(&many);
    text_free(&want);
}

static void case_upload(rig *r, cd_tls *tls, int version)
{
    enum { SIZE = 100000 };
    static char body[SIZE];
    static const char head[] = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
    if (r->cut == CUT_BYTES)
        return; /* minutes */
    for (int i = 0; i < SIZE; i++)
        body[i] = (char)('A' + i % 23);
    r->script = "start 200; echo";
    tls_client *t = tls_open(r, tls, "one.test", version);
    tls_text(t, head);
    tls_send(t, body, SIZE, 5000);
    CHECK(t->output.n > SIZE);
    CHECK(strstr(tls_output(t), "0\r\n\r\n") != NULL);
    tls_close(t);
}

/* A peer that reads nothing: the response waits, and comes whole when it reads. */
static void case_slow_reader(rig *r, cd_tls *tls, int version)
{
    enum { SIZE = 600000 };
    r->script = "start 200 content-length: 600000; lastpin 600000";
    if (r->cut == CUT_BYTES)
        return;
    tls_client *t = tls_open(r, tls, "one.test", version);
    t->most = 0;
    tls_text(t, get);
    CHECK(t->c->out.size > 0);
    t->most = SIZE_MAX;
    tls_settle(t);
    const char *body = strstr(tls_output(t), "\r\n\r\n");
    if (CHECK(body != NULL)) {
        size_t got = t->output.n - (size_t)(body + 4 - t->output.p), i = 0;
        CHECK_INT(got, SIZE);
        while (i < got && body[4 + i] == 'a' + (int)(i % 26))
            i++;
        CHECK_INT(i, SIZE);
    }
    tls_close(t);
}

/* A client with little memory: no record to it may be larger (RFC 6066, 4). */
static void case_small_records(rig *r, cd_tls *tls, int version)
{
    enum { SIZE = 40000 };
    r->script = "start 200 content-length: 40000; lastpin 40000";
    if (r->cut == CUT_BYTES)
        return;
    tls_client *t = tls_connect(r, tls, "one.test", version);
    SSL_set_tlsext_max_fragment_length(t->ssl, TLSEXT_max_fragment_length_512);
    tls_settle(t);
    tls_text(t, get);
    const char *body = strstr(tls_output(t), "\r\n\r\n");
    size_t got = body != NULL ? strlen(body + 4) : 0, i = 0;
    while (i < got && body[4 + i] == 'a' + (int)(i % 26))
        i++;
    CHECK_INT(i, SIZE);
    CHECK_INT(got, SIZE);
    tls_close(t);
}

static void case_goodbye(rig *r, cd_tls *tls, int version)
{
    r->script = "body; start 200 content-length: 5| connection: close; last hello";
    tls_client *t = tls_open(r, tls, "one.test", version);
    tls_text(t, "GET / HTTP/1.0\r\n\r\n");
    CHECK(strstr(tls_output(t), "hello") != NULL);
    CHECK(t->said_goodbye && t->ended && !t->failed);
    tls_close(t);
}

static void case_cut(rig *r, cd_tls *tls, int version)
{
    r->script = "body; start 200 content-length: 50; write some; fail";
    tls_client *t = tls_open(r, tls, "one.test", version);
    tls_text(t, get);
    CHECK(t->ended && !t->said_goodbye);
    tls_close(t);
}

static void case_client_leaves(rig *r, cd_tls *tls, int version)
{
    r->script = "body; leave";
    tls_client *t = tls_open(r, tls, "one.test", version);
    tls_text(t, get);
    SSL_shutdown(t->ssl);
    tls_settle(t);
    CHECK(strstr(rig_trace(r), "disconnect") == NULL);
    tls_close(t);
    rig_advance(r, 1);
    CHECK(strstr(rig_trace(r), "disconnect") != NULL);
}

/* It says close_notify, and reads on. */
static void case_client_waits(rig *r, cd_tls *tls, int version)
{
    r->script = "go; start 200; last hello";
    tls_client *t = tls_open(r, tls, "one.test", version);
    tls_text(t, get);
    SSL_shutdown(t->ssl);
    tls_settle(t);
    rig_go(r);
    tls_settle(t);
    CHECK(strstr(tls_output(t), "hello") != NULL);
    CHECK(t->said_goodbye && t->ended && !t->failed);
    tls_close(t);
}

static void case_names(rig *r, cd_tls *tls, int version)
{
    static const char *const rows[][2] = {
        {"one.test", "one.test"},
        {"a.wild.test", "*.wild.test"},
        {"exact.wild.test", "exact.wild.test"},
        {"A.WILD.test", "*.wild.test"},
        {"a.b.wild.test", "one.test"},
        {"wild.test", "one.test"},
        {"stranger.test", "one.test"},
        {NULL, "one.test"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        tls_client *t = tls_open(r, tls, rows[i][0], version);
        X509 *x = SSL_get0_peer_certificate(t->ssl);
        char name[64] = "";
        if (CHECK(x != NULL))
            X509_NAME_get_text_by_NID(X509_get_subject_name(x), NID_commonName, name, sizeof name);
        CHECK_STR(name, rows[i][1]);
        tls_close(t);
    }
}

/* ---- single ones ---- */

static void test_deadline(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    cd_tls *tls = tls_for(one);
    r->level = CD_INFO;
    tls_client *silent = tls_connect(r, tls, "one.test", 0);
    tls_client *half = tls_connect(r, tls, "one.test", 0);
    static const char begin[] = "\x16\x03\x01\x02\x00\x01";
    SSL_set_accept_state(silent->ssl); /* it waits, too */
    SSL_set_accept_state(half->ssl);
    tls_settle(silent);
    tls_send_raw(half, begin, sizeof begin - 1);
    rig_advance(r, 9);
    CHECK_INT(cd_server_connections(r->server), 2);
    rig_advance(r, 2);
    CHECK_INT(cd_server_connections(r->server), 0);
    CHECK(strstr(rig_trace(r), "no TLS handshake in 10 s (--tls-handshake-timeout)") != NULL);
    tls_close(silent);
    tls_close(half);
    rig_free(r);
    cd_tls_free(tls);
}

static void test_plain_http(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    cd_tls *tls = tls_for(one);
    r->level = CD_INFO;
    tls_client *t = tls_connect(r, tls, "one.test", 0);
    char answer[512];
    CHECK(send(t->fd, get, sizeof get - 1, 0) > 0);
    for (int i = 0; i < 5; i++)
        rig_turn(r);
    ssize_t n = recv(t->fd, answer, sizeof answer - 1, 0);
    answer[n > 0 ? n : 0] = '\0';
    CHECK(strncmp(answer, "HTTP/1.1 400 ", 13) == 0);
    const char *body = strstr(answer, "\r\n\r\n");
    CHECK(body != NULL && strlen(body + 4) == 47);
    CHECK(strstr(rig_trace(r), "it speaks plain HTTP") != NULL);
    tls_close(t);
    rig_settle(r);
    rig_advance(r, 5);
    CHECK_INT(cd_server_connections(r->server), 0);
    rig_free(r);
    cd_tls_free(tls);
}

/* Handshake, then the ticket; the session is the caller's. */
static SSL_SESSION *session_from(rig *r, cd_tls *tls)
{
    tls_client *t = tls_open(r, tls, "one.test", TLS1_2_VERSION);
    SSL_SESSION *session = SSL_get1_session(t->ssl);
    CHECK(SSL_SESSION_has_ticket(session));
    tls_close(t);
    return session;
}

static bool resumed(rig *r, cd_tls *tls, SSL_SESSION *session)
{
    tls_client *t = tls_connect(r, tls, "one.test", TLS1_2_VERSION);
    SSL_set_session(t->ssl, session);
    tls_settle(t);
    bool reused = SSL_session_reused(t->ssl);
    tls_close(t);
    return reused;
}

static void test_ticket_keys(void)
{
    rig *r = rig_new(CUT_WHOLE, 1);
    cd_tls *tls = tls_for(one);
    cd_tls *other = tls_for(one);
    cd_tls_set_ticket_lifetime(tls, 100);
    cd_tls_set_ticket_lifetime(other, 100);
    SSL_SESSION *first = session_from(r, tls);
    CHECK(resumed(r, tls, first));
    CHECK(!resumed(r, other, first));
    rig_advance(r, 99);
    CHECK(resumed(r, tls, first));
    rig_advance(r, 99); /* its key is the old one now, and opens once more */
    CHECK(resumed(r, tls, first));
    SSL_SESSION *second = session_from(r, tls);
    rig_advance(r, 5);
    CHECK(!resumed(r, tls, first));
    CHECK(resumed(r, tls, second));
    SSL_SESSION_free(first);
    SSL_SESSION_free(second);
    rig_free(r);
    cd_tls_free(tls);
    cd_tls_free(other);
}

static void test_reload(void)
{
    char problem[256];
    rig *r = rig_new(CUT_WHOLE, 1);
    cd_tls *tls = tls_for(one);
    r->script = "body; start 200 content-length: 5; last hello";
    tls_client *before = tls_open(r, tls, "one.test", 0);
    tls_client *under_way = tls_connect(r, tls, "one.test", 0);
    const char *file = certificate_file("two.test");
    cd_tls_pair pair = {file, file, NULL}, bad = {"/nonexistent", file, NULL};
    cd_tls_config config = {.pairs = &bad, .pair_count = 1, .min_version = 0x0303};
    CHECK_INT(cd_tls_reload(tls, &config, problem, sizeof problem), CD_VALUE);
    CHECK(strstr(problem, "/nonexistent: the certificate cannot be read") == problem);
    config.pairs = &pair;
    CHECK_INT(cd_tls_reload(tls, &config, problem, sizeof problem), CD_OK);
    CHECK_STR(problem, "");
    cd_tls_free(tls); /* the handshake that is under way holds it */
    tls_settle(under_way);
    tls_text(under_way, get);
    CHECK_STR(tls_output(under_way), hello);
    tls_text(before, get);
    CHECK_STR(tls_output(before), hello);
    tls_close(before);
    tls_close(under_way);
    rig_free(r);
}

/* ---- floods ---- */

/* Messages of the handshake bring the connection nothing: many of them must not keep the others
 * from their turn. */
static void test_key_updates(void)
{
    enum { COUNT = 6000 };
    rig *r = rig_new(CUT_WHOLE, 1);
    cd_tls *tls = tls_for(one);
    tls_client *t = tls_open(r, tls, "one.test", TLS1_3_VERSION);
    int unread = 0;
    char *records;
    r->script = "body; start 200 content-length: 5; last hello";
    for (int i = 0; i < COUNT; i++) {
        SSL_key_update(t->ssl, SSL_KEY_UPDATE_NOT_REQUESTED);
        CHECK_INT(SSL_do_handshake(t->ssl), 1);
    }
    long size = BIO_get_mem_data(SSL_get_wbio(t->ssl), &records);
    CHECK_INT(send(t->fd, records, (size_t)size, 0), size);
    (void)BIO_reset(SSL_get_wbio(t->ssl));
    rig_turn(r);
    CHECK(ioctl(t->fd, SIOCOUTQ, &unread) == 0 && unread > 0);
    tls_text(t, get);
    CHECK_STR(tls_output(t), hello);
    tls_close(t);
    rig_free(r);
    cd_tls_free(tls);
}

/* The same for data, which nobody wants any more: a turn of the loop reads some of it, no more. */
static void test_data_for_nobody(void)
{
    static const char junk[180000];
    rig *r = rig_new(CUT_WHOLE, 1);
    cd_tls *tls = tls_for(one);
    tls_client *t = tls_open(r, tls, "one.test", TLS1_3_VERSION);
    int unread = 0;
    char *records;
    r->script = "start 200 content-length: 5| connection: close; last hello";
    tls_text(t, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n");
    CHECK_STR(strstr(tls_output(t), "\r\n\r\n"), "\r\n\r\nhello");
    CHECK(!t->ended || t->c->state == CD_CONN_LINGER);
    for (size_t i = 0; i < sizeof junk; i += 15000)
        CHECK_INT(SSL_write(t->ssl, junk, 15000), 15000);
    long size = BIO_get_mem_data(SSL_get_wbio(t->ssl), &records);
    CHECK_INT(send(t->fd, records, (size_t)size, 0), size);
    (void)BIO_reset(SSL_get_wbio(t->ssl));
    rig_turn(r);
    CHECK(ioctl(t->fd, SIOCOUTQ, &unread) == 0 && unread > 0);
    for (int i = 0; i < 20; i++)
        rig_turn(r);
    CHECK(ioctl(t->fd, SIOCOUTQ, &unread) == 0 && unread == 0);
    tls_close(t);
    rig_free(r);
    cd_tls_free(tls);
}

/* What OpenSSL has to say to a peer that does not read waits, but not without end. */
static void test_alerts_wait_within_bounds(void)
{
    char record[64] = {0};
    int ends[2], count = 0;
    cd_tls_sink sink = {.room = NULL};
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    SSL *ssl = SSL_new(ctx);
    CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends), 0);
    CHECK_INT(cd_tls_attach(ssl, ends[0], &sink), CD_OK);
    CHECK_INT(cd_buf_append(&sink.unsent, record, 1), CD_OK);
    while (count < 100000 && BIO_write(SSL_get_wbio(ssl), record, sizeof record) > 0)
        count++;
    CHECK(count > 16 && count < 5000);
    CHECK(!BIO_should_retry(SSL_get_wbio(ssl)));
    cd_buf_dispose(&sink.unsent);
    SSL_free(ssl);
    SSL_CTX_free(ctx);
    close(ends[0]);
    close(ends[1]);
}

/* ---- memory ---- */

static void one_request(rig *r, cd_tls *tls)
{
    tls_client *t = tls_open(r, tls, "one.test", TLS1_3_VERSION);
    tls_text(t, get);
    tls_close(t);
}

static void test_no_memory(void)
{
    long before = cd_alloc_live();
    for (long n = 1; n < 200; n++) {
        cd_tls *tls = NULL;
        cd_alloc_fail_at(n);
        rig *r = rig_new(CUT_WHOLE, 1);
        if (r != NULL) {
            r->script = "body; start 200 content-length: 5; last hello";
            tls = tls_for(several);
            one_request(r, tls);
        }
        void *probe = cd_alloc(1);
        bool reached = probe == NULL;
        cd_free(probe);
        cd_alloc_fail_at(0);
        rig_free(r);
        cd_tls_free(tls);
        CHECK_INT(cd_alloc_live(), before);
        if (!reached)
            return;
    }
    CHECK(!"fewer than 200 allocations");
}

/* OpenSSL's own: whatever it makes of it, the connection ends and the server goes on. */
static void test_openssl_has_no_memory(void)
{
    for (long n = 1; n < 1500; n += 1 + n / 40) {
        rig *r = rig_new(CUT_WHOLE, 1);
        cd_tls *tls = tls_for(one);
        r->script = "body; start 200 content-length: 5; last hello";
        fail_at = n;
        allocations = 0;
        one_request(r, tls);
        fail_at = 0;
        one_request(r, tls);
        rig_free(r);
        cd_tls_free(tls);
    }
}

int main(void)
{
    CRYPTO_set_mem_functions(take, take_again, give);
    in_all_cuts(case_requests);
    in_all_cuts(case_pipeline);
    in_all_cuts(case_upload);
    in_all_cuts(case_slow_reader);
    in_all_cuts(case_small_records);
    in_all_cuts(case_goodbye);
    in_all_cuts(case_cut);
    in_all_cuts(case_client_leaves);
    in_all_cuts(case_client_waits);
    in_all_cuts(case_names);
    test_deadline();
    test_plain_http();
    test_ticket_keys();
    test_reload();
    test_key_updates();
    test_data_for_nobody();
    test_alerts_wait_within_bounds();
    test_no_memory();
    test_openssl_has_no_memory();
    return check_summary();
}
