/* Uses up CPU time, memory or processes, and says how far it came.

   allocate cpu LOOPS            loops in as many processes; prints nothing
   allocate memory PAGES STEPS   touches PAGES new pages STEPS times; prints the steps completed, one a line
   allocate processes MOST       forks until it is refused, MOST times at most; prints how many children it has

   Each has an end of its own, so that a limit that does not hold, or a test that is killed, harms nothing for long. */

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECONDS 90

/* The init of a pid namespace is immune to signals that it does not handle. */
static void leave(int signal)
{
    _exit(signal);
}

static void end_in_time(void)
{
    signal(SIGALRM, leave);
    alarm(SECONDS);
}

static void cpu(long loops)
{
    while (--loops > 0 && fork() > 0)
        ;
    end_in_time();
    for (;;)
        ;
}

static int memory(long pages, long steps)
{
    long size = sysconf(_SC_PAGESIZE);
    /* At the limit the kernel would take our own code's pages away, again and again, before it gives up and kills. Not
       allowed everywhere; where it is not, those pages are not counted as ours. */
    mlockall(MCL_CURRENT);
    for (long step = 1; step <= steps; step++) {
        char *fresh = mmap(NULL, pages * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (fresh == MAP_FAILED)
            return 1;
        madvise(fresh, pages * size, MADV_NOHUGEPAGE); /* a huge page is one touch for 512 pages */
        for (long page = 0; page < pages; page++)
            fresh[page * size] = 1;
        printf("%ld\n", step);
        fflush(stdout);
    }
    return 0;
}

static int processes(long most)
{
    long children = 0;
    while (children < most) {
        pid_t child = fork();
        if (child == 0) {
            end_in_time();
            pause();
            _exit(0);
        }
        if (child < 0)
            break;
        children++;
    }
    printf("%ld %s\n", children, children < most && errno == EAGAIN ? "refused" : "not refused");
    fflush(stdout);
    end_in_time();
    pause();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "cpu") == 0)
        cpu(atol(argv[2]));
    if (argc == 4 && strcmp(argv[1], "memory") == 0)
        return memory(atol(argv[2]), atol(argv[3]));
    if (argc == 3 && strcmp(argv[1], "processes") == 0)
        return processes(atol(argv[2]));
    return 2;
}
