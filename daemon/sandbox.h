/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sandbox: what lkmd takes away from itself. Before it opens its audit log and starts a thread: files and networks that it has no business with
 * (Landlock, where the kernel has it). Once it is ready and before it serves anybody: every system call that is not in sandbox-calls.def
 * (seccomp). Neither can be taken back, and there is no option to do without. sandbox-files.c and sandbox-calls.c do it; sandbox.c looks
 * at the result, for the status. Must not know of requests or keys.
 *
 * Where code that runs after the start needs a new system call, or a new file, see the heads of sandbox-calls.def and sandbox-files.c.
 */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** What is in force, as the kernel tells it. -1: it does not tell. */
struct sandbox {
        unsigned n_calls;    /* system calls that are allowed; 0 without a filter */
        int landlock_abi;    /* version of the interface that the kernel has; 0 without: files are not confined */
        int seccomp;         /* as in /proc/self/status: 0 nothing, 2 filter */
        int no_new_privs;    /* 0 or 1 */
        int n_capabilities;  /* that the process has, or could give itself */
        int dumpable;        /* prctl(2), PR_GET_DUMPABLE */
        int64_t core_limit;  /* bytes */
};

/** Named outcomes. */
enum { SANDBOX_E_UNKNOWN = 1 }; /* the kernel was built without it */

/** What lkmd has to do with files afterwards. Paths, borrowed for the call. */
struct sandbox_files {
        const char *config_path;   /* it and its drop-ins are read at each reload: their folders, also where links lead */
        const char *names[2];      /* files of users and groups, read */
        const char *audit_file;    /* its folder: read, written, and files made, renamed and removed in it */
        const char *sockets[2];    /* that it has bound and removes at the end: files can be removed from their folders; NULL: none */
};

/** sandbox_confine_files() - nothing but @files and /proc can be opened by this thread and those that it starts from now on, nothing be executed, no TCP socket
 *  bound or connected, no signal sent and no abstract socket reached outside, as far as the kernel's version of Landlock goes. Needs
 *  no_new_privs. @ret_why: on a negative return, a sentence for people, static. Return: 0 with @s->landlock_abi set; SANDBOX_E_UNKNOWN when
 *  this kernel has no Landlock; -errno when it has, and refuses: then do not serve. */
int sandbox_confine_files(struct sandbox *s, const struct sandbox_files *files, const char **ret_why);

/** sandbox_confine_calls() - apply the filter of system calls to all threads. @ret_why: on a negative return, a sentence for people, static.
 *  Return: 0 with @s->n_calls set; SANDBOX_E_UNKNOWN when this kernel was built without seccomp; -errno when it has seccomp and
 *  the filter cannot be applied: then do not serve. */
int sandbox_confine_calls(struct sandbox *s, const char **ret_why);

/** sandbox_enter() - sandbox_confine_calls(), and look at what is in force then. Return: as that, but SANDBOX_E_UNKNOWN is logged and 0. */
int sandbox_enter(struct sandbox *s, const char **ret_why);

/** sandbox_report() - the member `sandbox` of the status. Return: a new reference, or NULL without memory. */
json_t *sandbox_report(const struct sandbox *s);

/** sandbox_call_next() - iterate over the calls that are allowed, from @i = 0. @ret_number: of this architecture. @ret_often: whether every run makes it.
 *  Return: false past the end. */
bool sandbox_call_next(size_t i, const char **ret_name, int *ret_number, bool *ret_often);
