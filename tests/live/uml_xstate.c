/* Lets user-mode Linux run on processors whose XSAVE area is larger than it knows.
 *
 * User-mode Linux 6.1 keeps 2,696 bytes of extended registers per process (up to AVX-512 and
 * protection keys). On a processor with AMX the host kernel's area is about 11 KB, and
 * ptrace(PTRACE_SETREGSET, NT_X86_XSTATE) refuses a shorter one with EFAULT, so the guest's init
 * dies at its first switch to user space. Preloaded, this library completes the tail of each area
 * it sets with what the host last reported, which is the tail's initial state: no guest program
 * uses those registers, because the guest kernel never shows them.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static char tail_of_last_area[1 << 16];
static size_t host_area;

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;
	va_start(arguments, request);
	pid_t pid = va_arg(arguments, pid_t);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);

	int xstate = (unsigned long)address == NT_X86_XSTATE;
	if (xstate && request == PTRACE_GETREGSET) {
		struct iovec *wanted = data;
		struct iovec whole = {tail_of_last_area, sizeof tail_of_last_area};
		long answer = syscall(SYS_ptrace, request, pid, address, &whole);
		if (answer < 0)
			return answer;
		host_area = whole.iov_len;
		if (wanted->iov_len > whole.iov_len)
			wanted->iov_len = whole.iov_len;
		memcpy(wanted->iov_base, tail_of_last_area, wanted->iov_len);
		return answer;
	}
	if (xstate && request == PTRACE_SETREGSET) {
		struct iovec *given = data;
		if (given->iov_len < host_area) {
			struct iovec whole = {tail_of_last_area, host_area};
			memcpy(tail_of_last_area, given->iov_base, given->iov_len);
			return syscall(SYS_ptrace, request, pid, address, &whole);
		}
	}
	/* glibc's wrapper returns peeked words as the result; the raw call stores them at `data`. */
	if (request == PTRACE_PEEKTEXT || request == PTRACE_PEEKDATA || request == PTRACE_PEEKUSER) {
		long word = 0;
		return syscall(SYS_ptrace, request, pid, address, &word) < 0 ? -1 : word;
	}
	return syscall(SYS_ptrace, request, pid, address, data);
}
