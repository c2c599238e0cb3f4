/* The floor: the system calls of a full collect and nothing else. What it reads it throws away.
 *
 *     floor [-n PASSES] [-w] [LIST]
 *
 * Every process: 8 namespace links, stat, status, cgroup, through one descriptor of its directory. Then every file named
 * in LIST (or on standard input), one path a line. One line a pass: seconds first, then what was read, to compare.
 * -w: each pass waits for a line on standard input (LIST is a file then), so that passes alternate with another program.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *const links[] = {"ns/cgroup", "ns/ipc", "ns/mnt", "ns/net", "ns/pid", "ns/time", "ns/user", "ns/uts"};
static const char *const files[] = {"stat", "status", "cgroup"};

static char buffer[4096];

struct counts {
    long processes, links, files, bytes, failed;
};

/* Files that the kernel renders in one piece end with a short read, and asking once more would only raise the floor.
 * Files of many records (mountinfo, uid_map) may stop short anywhere: only 0 is their end. */
static void read_file(int directory, const char *name, int one_piece, struct counts *counts)
{
    int fd = openat(directory, name, O_RDONLY | O_CLOEXEC);
    ssize_t got;

    if (fd < 0) {
        counts->failed++;
        return;
    }
    counts->files++; /* opened: some refuse the read (attr/current without a security module), here as there */
    while ((got = read(fd, buffer, sizeof buffer)) > 0) {
        counts->bytes += got;
        if (one_piece && got < (ssize_t)sizeof buffer)
            break;
    }
    close(fd);
}

static void read_process(int proc, const char *pid, struct counts *counts)
{
    int directory = openat(proc, pid, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (directory < 0) {
        counts->failed++;
        return;
    }
    counts->processes++;
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        if (readlinkat(directory, links[i], buffer, sizeof buffer) < 0)
            counts->failed++;
        else
            counts->links++;
    }
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        read_file(directory, files[i], 1, counts);
    close(directory);
}

static double seconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static int next_line(void)
{
    int c;

    while ((c = getchar()) != EOF && c != '\n')
        ;
    return c != EOF;
}

static size_t read_list(FILE *from, char ***paths)
{
    char *line = NULL;
    size_t count = 0, room = 0, size = 0;
    ssize_t length;

    while ((length = getline(&line, &size, from)) > 0) {
        if (line[length - 1] == '\n')
            line[--length] = '\0';
        if (length == 0)
            continue;
        if (count == room) {
            room = room ? room * 2 : 1024;
            *paths = realloc(*paths, room * sizeof **paths);
        }
        if (*paths == NULL || ((*paths)[count++] = strdup(line)) == NULL) {
            perror("floor");
            exit(2);
        }
    }
    free(line);
    return count;
}

int main(int argc, char **argv)
{
    long passes = 1;
    int option, wait = 0;
    char **paths = NULL;
    FILE *from = stdin;

    while ((option = getopt(argc, argv, "n:w")) != -1) {
        if (option == 'w')
            wait = 1;
        else if (option != 'n' || (passes = strtol(optarg, NULL, 10)) < 1) {
            fprintf(stderr, "usage: floor [-n PASSES] [-w] [LIST]\n");
            return 2;
        }
    }
    if (optind < argc && (from = fopen(argv[optind], "r")) == NULL) {
        fprintf(stderr, "floor: %s: %s\n", argv[optind], strerror(errno));
        return 2;
    }
    size_t count = read_list(from, &paths);

    DIR *proc = opendir("/proc");
    if (proc == NULL) {
        fprintf(stderr, "floor: /proc: %s\n", strerror(errno));
        return 2;
    }
    for (long pass = 1; pass <= passes; pass++) {
        struct counts counts = {0};

        if (wait && !next_line())
            break;
        double wall = seconds(CLOCK_MONOTONIC), cpu = seconds(CLOCK_PROCESS_CPUTIME_ID);

        rewinddir(proc);
        for (struct dirent *entry; (entry = readdir(proc)) != NULL;)
            if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
                read_process(dirfd(proc), entry->d_name, &counts);
        for (size_t i = 0; i < count; i++)
            read_file(AT_FDCWD, paths[i], strncmp(paths[i], "/proc/", 6) != 0, &counts);

        wall = seconds(CLOCK_MONOTONIC) - wall;
        cpu = seconds(CLOCK_PROCESS_CPUTIME_ID) - cpu;
        printf("wall %.6f cpu %.6f processes %ld links %ld files %ld bytes %ld failed %ld\n", wall, cpu, counts.processes,
               counts.links, counts.files, counts.bytes, counts.failed);
        fflush(stdout);
    }
    return 0;
}
