/* SPDX-License-Identifier: Apache-2.0 */
#include "client/error.h"

#include <errno.h>
#include <stdarg.h>

#include "client/connection.h"

/* The public header and the two lists agree. */
#define CLIENT_ERROR(NAME, number, sentence) _Static_assert(LKM_E_##NAME == (number), #NAME);
#include "client/errors.def"
#undef CLIENT_ERROR
#define SAME(NAME) _Static_assert((unsigned)LKM_E_##NAME == (unsigned)PROTO_ERROR_##NAME, #NAME)
SAME(PROTOCOL);
SAME(VERSION);
SAME(UNSUPPORTED);
SAME(QUOTA);
SAME(INTERNAL);
SAME(DENIED);
SAME(LOCKED);
SAME(AUDIT_UNAVAILABLE);
SAME(SHUTTING_DOWN);
SAME(SCOPE_UNKNOWN);
SAME(SCOPE_NEEDED);
SAME(RECORD_DAMAGED);
SAME(RECORD_FOREIGN);
SAME(RECORD_NEWER);
SAME(RECORD_OUTDATED);
SAME(VERSION_UNKNOWN);
SAME(ROTATION_IN_PROGRESS);
SAME(NOT_CACHED);
SAME(RECORD_FULL);
SAME(NOT_PENDING);
SAME(VERSION_IN_USE);
SAME(RECORD_FULL);
SAME(NOT_PENDING);
SAME(VERSION_IN_USE);
SAME(KEK_UNAVAILABLE);
SAME(KEK_DENIED);
SAME(KEK_MISCONFIGURED);

enum { WIRE_ERROR_END = 100 };

static const struct {
        int error;
        const char *name;
        const char *sentence;
} texts[] = {
#define CLIENT_ERROR(NAME, number, sentence) { number, #NAME, sentence },
#include "client/errors.def"
#undef CLIENT_ERROR
};

/* The sentence of the last failed lkm_connect(), which leaves no handle to keep it in. */
static _Thread_local char thread_message[ERROR_MESSAGE_MAX];

const char *lkm_version(void)
{
        return LKM_VERSION;
}

const char *lkm_strerror(int error)
{
        if (error == 0)
                return "Success.";
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                if (texts[i].error == error)
                        return texts[i].sentence;
        }
        if (error < 0 || error >= WIRE_ERROR_END)
                return "An error that this version of liblkm does not know. Update it.";
        return proto_error_sentence((unsigned)error);
}

const char *lkm_error_name(int error)
{
        if (error == 0)
                return "OK";
        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                if (texts[i].error == error)
                        return texts[i].name;
        }
        return error > 0 && error < WIRE_ERROR_END ? proto_error_name((unsigned)error) : "?";
}

const char *lkm_error_message(const struct lkm *lkm)
{
        return lkm ? lkm->message : thread_message;
}

void error_write(struct lkm *lkm, const char *format, ...)
{
        char *message = lkm ? lkm->message : thread_message;
        va_list arguments;

        va_start(arguments, format);
        vsnprintf(message, ERROR_MESSAGE_MAX, format, arguments);
        va_end(arguments);
}

int error_set_errno(struct lkm *lkm, int negative_errno, const char *what)
{
        if (negative_errno == -ENOMEM || negative_errno == -ENOBUFS)
                return error_set_default(lkm, LKM_E_NO_MEMORY);
        if (negative_errno == -EMSGSIZE || negative_errno == -EINVAL)
                return error_set(lkm, LKM_E_ARGUMENT, "%s: an argument is too long or empty. %s", what,
                                 lkm_strerror(LKM_E_ARGUMENT));
        return error_set(lkm, LKM_E_IO, "%s: %s.", what, strerror(-negative_errno));
}

int error_set_wire(struct lkm *lkm, const struct message_error *m)
{
        if (m->code == 0 || m->code >= WIRE_ERROR_END)
                return error_set_default(lkm, LKM_E_PROTOCOL);
        return error_set(lkm, m->code, "%.*s", (int)m->sentence.n, (const char *)m->sentence.data);
}
