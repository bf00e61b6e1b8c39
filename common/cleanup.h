/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup: scope-bound release of what a function owns. Included by everything; includes nothing of ours.
 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define _cleanup_(function) __attribute__((__cleanup__(function)))
#define _printf_(format, first) __attribute__((__format__(printf, format, first)))

/** TAKE_PTR() - move a pointer out of its variable, which becomes NULL. */
#define TAKE_PTR(variable)                                \
        ({                                                \
                __typeof__(variable) _taken = (variable); \
                (variable) = NULL;                        \
                _taken;                                   \
        })

/** TAKE_STRUCT() - move a struct out of its variable, which becomes @empty. */
#define TAKE_STRUCT(variable, empty)                           \
        ({                                                     \
                __typeof__(variable) _taken = (variable);      \
                (variable) = (__typeof__(variable))empty;      \
                _taken;                                        \
        })

/** TAKE_FD() - move a descriptor out of its variable, which becomes -1. */
#define TAKE_FD(variable)                  \
        ({                                 \
                int _taken = (variable);   \
                (variable) = -1;           \
                _taken;                    \
        })

/** DEFINE_CLEANUP() - define function##p() for use with _cleanup_(), for a release function that accepts NULL. */
#define DEFINE_CLEANUP(type, function)                         \
        static inline void function##p(type *pointer)          \
        {                                                      \
                if (*pointer)                                  \
                        function(*pointer);                    \
        }

#define ELEMENTSOF(array) (sizeof(array) / sizeof((array)[0]))

static inline void freep(void *pointer)
{
        free(*(void **)pointer);
}

static inline void fclosep(FILE **stream)
{
        if (*stream)
                fclose(*stream);
}

static inline void closep(int *fd)
{
        if (*fd >= 0)
                close(*fd);
}
