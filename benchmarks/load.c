/* The processes of the load: as many containers as it is told, each with its own namespaces and sleeping processes.
 *
 *     load CONTAINERS PROCESSES SUFFIX PARENT...
 *
 * Container N (from 0) joins PARENT/10ad10ad<N as 4 hexadecimal digits>SUFFIX of each PARENT, which load.py has made.
 * Prints one line when all are up. Everything ends with the end of standard input, hence also when load.py is killed.
 * In C, because a process of this is made in a tenth of the time and the memory that a forked Python takes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAMESPACES (CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET)
#define AT_ONCE 16 /* are being made; the kernel takes one cgroup after the other anyway */

static int hold[2], ready[2];

static void failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, strerror(errno));
    if (write(ready[1], "!", 1) != 1)
        abort();
    _exit(1);
}

/* v1 lets a thread move itself with far less locking than a process, and here they are the same. */
static void join(const char *parent, const char *name)
{
    static const char *const files[] = {"tasks", "cgroup.procs"};
    char path[4096];

    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        snprintf(path, sizeof path, "%s/%s/%s", parent, name, files[i]);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0)
            continue;
        if (write(fd, "0", 1) != 1)
            failed(path);
        close(fd);
        return;
    }
    failed(path);
}

/* In process 1 of a container. When it ends, the kernel kills the others. */
static void contain(const char *name, long processes, char **parents)
{
    char end;

    close(hold[1]);
    for (; *parents != NULL; parents++)
        join(*parents, name);
    while (--processes > 0) {
        pid_t pid = fork();
        if (pid < 0)
            failed("fork");
        if (pid == 0)
            for (;;)
                pause();
    }
    if (write(ready[1], ".", 1) != 1)
        failed("ready");
    close(ready[1]);
    while (read(hold[0], &end, 1) < 0 && errno == EINTR)
        ;
    _exit(0);
}

/* Wait until one more is up. */
static int one_is_up(void)
{
    char told = '!';

    return read(ready[0], &told, 1) == 1 && told == '.';
}

static int make(long containers, long processes, const char *suffix, char **parents)
{
    char name[256];

    for (long number = 0; number < containers; number++) {
        if (number >= AT_ONCE && !one_is_up())
            return 0;
        snprintf(name, sizeof name, "10ad10ad%04lx%s", number, suffix);
        long pid = syscall(SYS_clone, NAMESPACES | SIGCHLD, NULL, NULL, NULL, NULL);
        if (pid < 0) {
            perror("clone");
            return 0;
        }
        if (pid == 0)
            contain(name, processes / containers + (number < processes % containers), parents);
    }
    for (long left = containers < AT_ONCE ? containers : AT_ONCE; left > 0; left--)
        if (!one_is_up())
            return 0;
    return 1;
}

int main(int argc, char **argv)
{
    char end;

    if (argc < 5) {
        fprintf(stderr, "usage: load CONTAINERS PROCESSES SUFFIX PARENT...\n");
        return 2;
    }
    if (pipe2(hold, O_CLOEXEC) || pipe2(ready, O_CLOEXEC)) {
        perror("pipe");
        return 1;
    }
    int made = make(strtol(argv[1], NULL, 10), strtol(argv[2], NULL, 10), argv[3], argv + 4);
    if (made) {
        puts("up");
        fflush(stdout);
        while (read(STDIN_FILENO, &end, 1) > 0)
            ;
    }
    close(hold[1]);
    while (wait(NULL) > 0)
        ;
    return !made;
}
