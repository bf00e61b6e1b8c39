/* SPDX-License-Identifier: Apache-2.0 */
/*
 * error: the texts of liblkm's errors, and the sentence that each failure leaves behind. Never holds a secret.
 */
#pragma once

#include "client/lkm.h"
#include "common/cleanup.h"
#include "proto/frame.h"

#define ERROR_MESSAGE_MAX 1536

/** error_write() - write the sentence of a failure into @lkm, or this thread's when NULL. */
void error_write(struct lkm *lkm, const char *format, ...) _printf_(2, 3);
/** error_set(lkm, error, format, ...) - error_write(). A macro, so that compilers know that its value is @error. */
#define error_set(lkm, error, ...)                 \
        ({                                         \
                int _error = (error);              \
                error_write((lkm), __VA_ARGS__);   \
                _error;                            \
        })
/** error_set_default() - the same with lkm_strerror(). Return: @error. */
static inline int error_set_default(struct lkm *lkm, int error)
{
        error_write(lkm, "%s", lkm_strerror(error));
        return error;
}
/** error_set_errno() - for a failed internal call: -ENOMEM and -ENOBUFS are LKM_E_NO_MEMORY, -EMSGSIZE and -EINVAL LKM_E_ARGUMENT, others
 *  LKM_E_IO with @what. Return: the error. */
int error_set_errno(struct lkm *lkm, int negative_errno, const char *what);
/** error_set_wire() - what the daemon answered. Return: its code, or LKM_E_PROTOCOL for one that it may not send. */
int error_set_wire(struct lkm *lkm, const struct message_error *m);
