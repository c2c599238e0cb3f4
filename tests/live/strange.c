/* Stands out among the processes of a container.

   strange threads WHAT...   a thread for each, named like that when it is done: the functions below say what;
                             the namespaces of the host are those of process $HOST
   strange memfd             runs this program from memory
   strange vanish            removes the file of this program
   strange named NAME        is called that
   strange clock COMMAND...  runs it in a time namespace of its own
   strange leaves            ends its first thread and goes on in another
   strange vforks            waits for a child that never lets it go on

   It ends after some minutes, so that a test that is killed harms nothing for long. */

#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/capability.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080
#endif
#define SECONDS 300

static void must(int good, const char *what)
{
    if (good)
        return;
    perror(what);
    _exit(1);
}

/* The C library would do it for all threads; the kernel does it for one. */
static void change_power(int capability, int permitted, int effective)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct sets[2];
    __u32 bit = CAP_TO_MASK(capability);
    must(syscall(SYS_capget, &header, sets) == 0, "capget");
    struct __user_cap_data_struct *set = &sets[CAP_TO_INDEX(capability)];
    set->permitted = permitted ? set->permitted | bit : set->permitted & ~bit;
    set->effective = effective ? set->effective | bit : set->effective & ~bit;
    must(syscall(SYS_capset, &header, sets) == 0, "capset");
}

static void enter_the_hosts(const char *kind, int flag)
{
    char path[64];
    const char *host = getenv("HOST");
    snprintf(path, sizeof path, "/proc/%s/ns/%s", host ? host : "1", kind);
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    must(namespace >= 0, path);
    must(unshare(CLONE_FS) == 0, "unshare of the working directory");
    must(setns(namespace, flag) == 0, "setns");
}

static void drops(void) { change_power(CAP_CHOWN, 0, 0); }
static void raises(void) { change_power(CAP_NET_RAW, 1, 1); }
static void nothing(void) {}
static void new_mnt(void) { must(unshare(CLONE_NEWNS) == 0, "unshare"); }
static void new_net(void) { must(unshare(CLONE_NEWNET) == 0, "unshare"); }
static void host_mnt(void) { enter_the_hosts("mnt", CLONE_NEWNS); }
static void host_net(void) { enter_the_hosts("net", CLONE_NEWNET); }

/* Of those that raise or keep the leader lays down what they then have: before they start, or when all are done. */
static const struct deed {
    const char *name;
    void (*it)(void);
} deeds[] = {
    {"drops", drops}, {"raises", raises}, {"keeps", nothing}, {"same", nothing},
    {"new-mnt", new_mnt}, {"new-net", new_net}, {"host-mnt", host_mnt}, {"host-net", host_net},
};

static pthread_barrier_t done;

static void *do_it(void *given)
{
    const struct deed *deed = given;
    deed->it();
    pthread_barrier_wait(&done);
    pthread_barrier_wait(&done); /* the leader has done its part */
    prctl(PR_SET_NAME, deed->name);
    while (pause())
        ;
    return NULL;
}

static const struct deed *deed_of(const char *name)
{
    for (size_t i = 0; i < sizeof deeds / sizeof *deeds; i++)
        if (strcmp(deeds[i].name, name) == 0)
            return &deeds[i];
    fprintf(stderr, "what is %s?\n", name);
    _exit(2);
}

static void threads(int count, char **names)
{
    int keeps = 0;
    must(pthread_barrier_init(&done, NULL, count + 1) == 0, "barrier");
    for (int i = 0; i < count; i++)
        if (deed_of(names[i])->it == raises)
            change_power(CAP_NET_RAW, 1, 0);
    for (int i = 0; i < count; i++) {
        const struct deed *deed = deed_of(names[i]);
        keeps |= strcmp(deed->name, "keeps") == 0;
        pthread_t thread;
        must(pthread_create(&thread, NULL, do_it, (void *)deed) == 0, "thread");
    }
    pthread_barrier_wait(&done);
    if (keeps)
        change_power(CAP_MKNOD, 0, 0);
    pthread_barrier_wait(&done);
}

static void memfd(void)
{
    int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), memory = memfd_create("strange", MFD_CLOEXEC);
    struct stat about;
    must(file >= 0 && memory >= 0 && fstat(file, &about) == 0, "memfd_create");
    for (off_t left = about.st_size; left > 0;) {
        ssize_t sent = sendfile(memory, file, NULL, left);
        must(sent > 0, "sendfile");
        left -= sent;
    }
    char *const words[] = {"strange", "wait", NULL};
    fexecve(memory, words, environ);
    must(0, "fexecve");
}

static void *wait_for_the_end(void *nothing)
{
    sleep(SECONDS);
    _exit(nothing != NULL);
}

static void leaves(void)
{
    pthread_t thread;
    must(pthread_create(&thread, NULL, wait_for_the_end, NULL) == 0, "thread");
    pthread_exit(NULL);
}

static void vforks(void)
{
    if (vfork() == 0) {
        sleep(SECONDS);
        _exit(0);
    }
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (strcmp(what, "threads") == 0)
        threads(argc - 2, argv + 2);
    else if (strcmp(what, "memfd") == 0)
        memfd();
    else if (strcmp(what, "vanish") == 0)
        must(unlink(argv[0]) == 0, "unlink");
    else if (strcmp(what, "leaves") == 0)
        leaves();
    else if (strcmp(what, "vforks") == 0)
        vforks();
    else if (strcmp(what, "named") == 0 && argc == 3)
        prctl(PR_SET_NAME, argv[2]);
    else if (strcmp(what, "clock") == 0 && argc > 2) {
        must(unshare(CLONE_NEWTIME) == 0, "unshare");
        execvp(argv[2], argv + 2);
        must(0, argv[2]);
    } else if (strcmp(what, "wait") != 0)
        return 2;
    sleep(SECONDS);
    return 0;
}
