// A preloaded ptrace for user-mode-linux on processors whose saved state is larger than it knows of (AVX-512 with AMX).
//
// User-mode-linux writes the extended registers of its processes with PTRACE_SETREGSET in the size that it was built
// for. The host's kernel takes them in full size only, and says EFAULT to less, upon which user-mode-linux gives up
// ("ptrace set fp regs failed, errno = 14"). So what it writes is laid over what the process has, and all is written.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

#ifndef NT_X86_XSTATE
#define NT_X86_XSTATE 0x202
#endif

typedef long (*function)(int request, int pid, void *address, void *data);
static function real;

// At load: later there are only the small stacks of kernel threads.
__attribute__((constructor)) static void find(void)
{
	real = (function)dlsym(RTLD_NEXT, "ptrace");
}

static long set_registers(int pid, void *address, struct iovec *given)
{
	// One thread is the whole kernel.
	static char state[64 << 10] __attribute__((aligned(64)));
	struct iovec whole = {state, sizeof(state)};

	if (real(PTRACE_GETREGSET, pid, address, &whole) != 0 || whole.iov_len <= given->iov_len)
		return real(PTRACE_SETREGSET, pid, address, given);
	memcpy(state, given->iov_base, given->iov_len);
	return real(PTRACE_SETREGSET, pid, address, &whole);
}

long ptrace(enum __ptrace_request request, ...)
{
	va_list arguments;

	va_start(arguments, request);
	int pid = va_arg(arguments, int);
	void *address = va_arg(arguments, void *);
	void *data = va_arg(arguments, void *);
	va_end(arguments);
	if (request == PTRACE_SETREGSET && (long)address == NT_X86_XSTATE)
		return set_registers(pid, address, data);
	return real(request, pid, address, data);
}
