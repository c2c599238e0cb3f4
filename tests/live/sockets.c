/* Holds sockets until it is killed, or for some minutes; prints "ready" when it has them.

   sockets WORD...
     tcp ADDRESS PORT   listens                         udp ADDRESS PORT    is bound, without a peer
     tcp6 ADDRESS PORT  the same for IPv6 alone         peer ADDRESS PORT   UDP with a peer
     bound ADDRESS PORT is TCP that does not listen     busy NUMBER         connects to the last that listens
     fork               is two processes from here on   leave               the first thread ends, another goes on */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define SECONDS 300

static union {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
} name;
static socklen_t size;

static void must(int result, const char *what)
{
    if (result < 0) {
        perror(what);
        exit(1);
    }
}

static void parse(const char *address, const char *port)
{
    memset(&name, 0, sizeof name);
    if (strchr(address, ':')) {
        name.six.sin6_family = AF_INET6;
        name.six.sin6_port = htons(atoi(port));
        size = sizeof name.six;
        must(inet_pton(AF_INET6, address, &name.six.sin6_addr) - 1, address);
    } else {
        name.four.sin_family = AF_INET;
        name.four.sin_port = htons(atoi(port));
        size = sizeof name.four;
        must(inet_pton(AF_INET, address, &name.four.sin_addr) - 1, address);
    }
}

static void *wait_on(void *nothing)
{
    for (;;)
        sleep(SECONDS);
    return nothing;
}

int main(int count, char **words)
{
    int leave = 0, last = -1;
    pthread_t thread;

    alarm(SECONDS);
    for (int at = 1; at < count; at++) {
        const char *word = words[at];
        if (!strcmp(word, "fork")) {
            int child = fork();
            must(child, word);
            if (!child)
                wait_on(NULL);
        } else if (!strcmp(word, "leave")) {
            leave = 1;
        } else if (!strcmp(word, "busy") && at + 1 < count) {
            int number = atoi(words[++at]);
            struct rlimit limit = {2 * number + 64, 2 * number + 64};
            must(setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
            while (number-- > 0) {
                int fd = socket(name.any.sa_family, SOCK_STREAM, 0);
                must(connect(fd, &name.any, size), "connect");
                must(accept(last, NULL, NULL), "accept");
            }
        } else if (at + 2 < count) {
            int datagrams = !strcmp(word, "udp") || !strcmp(word, "peer"), on = !strcmp(word, "tcp6"), yes = 1, fd;
            parse(words[at + 1], words[at + 2]);
            at += 2;
            fd = socket(name.any.sa_family, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0);
            must(fd, "socket");
            must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes), "SO_REUSEADDR");
            if (on)
                must(setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on), "IPV6_V6ONLY");
            if (!strcmp(word, "peer")) {
                must(connect(fd, &name.any, size), "connect");
                continue;
            }
            must(bind(fd, &name.any, size), "bind");
            if (!datagrams && strcmp(word, "bound")) {
                must(listen(fd, 128), "listen");
                last = fd;
            }
        } else {
            fprintf(stderr, "unknown: %s\n", word);
            return 2;
        }
    }
    if (leave && pthread_create(&thread, NULL, wait_on, NULL))
        return 3;
    must(write(1, "ready\n", 6), "write");
    if (leave)
        pthread_exit(NULL);
    wait_on(NULL);
    return 0;
}
