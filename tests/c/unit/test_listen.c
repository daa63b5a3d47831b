/*
 * listen.c and tcp.c on real sockets: addresses, the connection limit, and what happens when
 * descriptors run out or a child is forked.
 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static rig *new_rig(size_t max_connections)
{
    cd_config config = {.access_fd = -1};
    config.limits = cd_config_default.limits;
    config.limits.max_connections = max_connections;
    rig_configure(&config);
    rig *r = rig_new(CUT_WHOLE, 1);
    rig_configure(NULL);
    return r;
}

/* A listening socket on loopback that the rig's server accepts on; its port. */
static in_port_t listen_on(rig *r, int family)
{
    struct sockaddr_in6 a6 = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
    struct sockaddr_in a4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    struct sockaddr_storage bound;
    socklen_t length = sizeof bound;
    int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_INT(family == AF_INET ? bind(fd, (struct sockaddr *)&a4, sizeof a4)
                                : bind(fd, (struct sockaddr *)&a6, sizeof a6),
              0);
    CHECK_INT(listen(fd, 100), 0);
    CHECK_INT(getsockname(fd, (struct sockaddr *)&bound, &length), 0);
    CHECK_INT(cd_server_listen(r->server, fd, NULL), CD_OK);
    return family == AF_INET ? ((struct sockaddr_in *)&bound)->sin_port
                             : ((struct sockaddr_in6 *)&bound)->sin6_port;
}

static int connect_to(in_port_t port)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = port};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK_INT(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    return fd;
}

static void turns(rig *r)
{
    for (int i = 0; i < 5; i++)
        rig_turn(r);
}

static cd_conn *newest(rig *r)
{
    return cd_container(r->server->conns.prev, cd_conn, link);
}

static void test_addresses(void)
{
    rig *r = new_rig(0);
    in_port_t port = listen_on(r, AF_INET), port6 = listen_on(r, AF_INET6);
    int fd = connect_to(port);
    turns(r);
    CHECK_STR(newest(r)->client->host, "127.0.0.1");
    CHECK(newest(r)->client->port > 0);
    CHECK_STR(newest(r)->server_addr->host, "127.0.0.1"); /* not the 0.0.0.0 it is bound to */
    CHECK_INT(newest(r)->server_addr->port, ntohs(port));
    struct sockaddr_in6 a = {
        .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = port6};
    int fd6 = socket(AF_INET6, SOCK_STREAM, 0);
    CHECK_INT(connect(fd6, (struct sockaddr *)&a, sizeof a), 0);
    turns(r);
    CHECK_STR(newest(r)->client->host, "::1");
    CHECK_STR(newest(r)->server_addr->host, "::1");
    close(fd);
    close(fd6);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 0);
    rig_free(r);
}

static void test_unix_socket(void)
{
    rig *r = new_rig(0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    snprintf(a.sun_path, sizeof a.sun_path, "/tmp/cdaphne-test-%d", (int)getpid());
    int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    CHECK_INT(bind(listener, (struct sockaddr *)&a, sizeof a), 0);
    CHECK_INT(listen(listener, 5), 0);
    CHECK_INT(cd_server_listen(r->server, listener, NULL), CD_OK);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    CHECK_INT(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
    turns(r);
    CHECK_STR(newest(r)->client->host, "");
    CHECK_INT(newest(r)->client->port, -1);
    CHECK_STR(newest(r)->server_addr->host, a.sun_path);
    CHECK_INT(newest(r)->server_addr->port, -1);
    close(fd);
    unlink(a.sun_path);
    rig_free(r);
}

static void test_limit_leaves_the_rest_in_the_backlog(void)
{
    rig *r = new_rig(2);
    in_port_t port = listen_on(r, AF_INET);
    int fds[5];
    for (int i = 0; i < 5; i++)
        fds[i] = connect_to(port);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 2);
    close(fds[0]);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 2);
    CHECK_STR(rig_trace(r), "log 30 2 connections are open, as many as --max-connections allows: "
                            "new ones wait in the backlog\n");
    for (int i = 1; i < 4; i++)
        close(fds[i]);
    turns(r);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 1);
    close(fds[4]);
    rig_free(r);
}

static void test_soft_limit_is_no_limit(void)
{
    rig *r = new_rig(0);
    in_port_t port = listen_on(r, AF_INET);
    int fds[80], free_number = dup(0);
    struct rlimit before, few, after;
    for (int i = 0; i < 80; i++)
        fds[i] = connect_to(port);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &before), 0);
    few = before;
    few.rlim_cur = (rlim_t)dup(0) + 5;
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &few), 0);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 80);
    CHECK_INT(getrlimit(RLIMIT_NOFILE, &after), 0);
    CHECK(after.rlim_cur == few.rlim_cur && after.rlim_max == few.rlim_max);
    int lowest = dup(0);
    CHECK(lowest >= 0 && (rlim_t)lowest < few.rlim_cur); /* the application still gets one */
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &before), 0);
    close(lowest);
    close((int)few.rlim_cur - 5);
    close(free_number);
    for (int i = 0; i < 80; i++)
        close(fds[i]);
    rig_free(r);
}

/* The last one: only root could raise the hard limit again. */
static void test_out_of_descriptors(void)
{
    rig *r = new_rig(1000);
    in_port_t port = listen_on(r, AF_INET);
    int fd = connect_to(port), spare = dup(0), lowest = dup(0);
    close(lowest);
    struct rlimit none = {.rlim_cur = (rlim_t)lowest, .rlim_max = (rlim_t)lowest};
    CHECK_INT(setrlimit(RLIMIT_NOFILE, &none), 0);
    int logged = r->logged;
    turns(r);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 0);
    CHECK_INT(r->logged, logged + 1); /* once, and no spinning */
    close(spare);
    rig_advance(r, 0.2);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 1);
    close(fd);
    rig_free(r);
}

static void forsake_in_child(rig *r)
{
    pid_t child = fork();
    int status = -1;
    if (child == 0) {
        cd_server_forsake(r->server);
        cd_loop_forsake(r->loop);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}

static void test_forked_child_lets_go_in_silence(void)
{
    rig *r = new_rig(0);
    in_port_t port = listen_on(r, AF_INET);
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    char answer[256];
    r->script = "body;start 200;last hello";
    int fd = connect_to(port);
    turns(r);
    forsake_in_child(r);
    CHECK(recv(fd, answer, sizeof answer, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    CHECK(send(fd, request, sizeof request - 1, 0) == sizeof request - 1);
    turns(r);
    CHECK(recv(fd, answer, sizeof answer, MSG_DONTWAIT) > 17);
    int second = connect_to(port);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 2);
    close(fd);
    close(second);
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 0);
    rig_free(r);
}

static void test_drain_takes_the_backlog(void)
{
    rig *r = new_rig(0);
    in_port_t port = listen_on(r, AF_INET);
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    char answer[256];
    int fds[3];
    r->script = "body;start 200;last hello";
    for (int i = 0; i < 3; i++) {
        fds[i] = connect_to(port);
        CHECK(send(fds[i], request, sizeof request - 1, 0) == sizeof request - 1);
    }
    cd_server_drain(r->server);
    turns(r);
    for (int i = 0; i < 3; i++) {
        ssize_t n = recv(fds[i], answer, sizeof answer - 1, MSG_DONTWAIT);
        answer[n > 0 ? n : 0] = '\0';
        CHECK(strncmp(answer, "HTTP/1.1 200 OK\r\n", 17) == 0);
        close(fds[i]);
    }
    turns(r);
    CHECK_INT(cd_server_connections(r->server), 0);
    rig_free(r);
}

static void test_no_memory_for_a_connection(void)
{
    for (long n = 1; n < 8; n++) {
        rig *r = new_rig(0);
        in_port_t port = listen_on(r, AF_INET);
        int fd = connect_to(port);
        cd_alloc_fail_at(n);
        turns(r);
        cd_alloc_fail_at(0);
        close(fd);
        turns(r);
        CHECK_INT(cd_server_connections(r->server), 0);
        rig_free(r);
    }
}

int main(void)
{
    test_addresses();
    test_unix_socket();
    test_limit_leaves_the_rest_in_the_backlog();
    test_soft_limit_is_no_limit();
    test_drain_takes_the_backlog();
    test_forked_child_lets_go_in_silence();
    test_no_memory_for_a_connection();
    test_out_of_descriptors();
    return check_summary();
}
