/* SPDX-License-Identifier: Apache-2.0 */
/*
 * audit-chain: whether a log is what lkmd wrote, and if not, from which record on. Each line proves itself and names the one before it; what
 * chains its own lines anew is found by anchors: hashes of records that are known from elsewhere. Reads the files once, and what follows a fault a
 * second time to tell what it is. Must not know where anchors come from, nor print.
 */
#pragma once

#include "client/audit-files.h"
#include "proto/audit-line.h"

/** A record's hash, known from elsewhere. */
struct audit_anchor {
        uint64_t sequence;
        unsigned source; /* the caller's */
        char hash[AUDIT_HASH_LENGTH + 1];
};

struct audit_anchors {
        size_t n, capacity;
        struct audit_anchor *anchors;
};

/** audit_anchors_add() - @hash: AUDIT_HASH_LENGTH hex digits. Return: 0; -EINVAL for a number or hash that is none; -ENOMEM. */
int audit_anchors_add(struct audit_anchors *a, uint64_t sequence, struct bytes hash, unsigned source);
/** audit_anchors_read() - those of a text: on each line SEQUENCE and HASH, perhaps with "audit checkpoint " and whatever before that; empty lines and
 *  those that begin with '#' are passed over. @ret_line: the line that is none. Return: 0; -EBADMSG; -errno of getline(3); -ENOMEM. */
int audit_anchors_read(struct audit_anchors *a, FILE *file, unsigned source, unsigned *ret_line);
void audit_anchors_deinit(struct audit_anchors *a);

enum audit_fault {
        AUDIT_FAULT_NONE,
        AUDIT_FAULT_CHANGED,   /* the line in the place of `sequence` is not what was written; `rehashed`: but has a hash of its own */
        AUDIT_FAULT_MISSING,   /* `sequence` to `other` are not there */
        AUDIT_FAULT_SWAPPED,   /* `other` is in the place of `sequence`, which comes later */
        AUDIT_FAULT_DOUBLED,   /* `other` is there a second time, in the place of `sequence` */
        AUDIT_FAULT_INSERTED,  /* a line that lkmd did not write is in the place of `sequence` */
        AUDIT_FAULT_CUT,       /* the log ends before `sequence`; an anchor knows of `other` */
        AUDIT_FAULT_RECHAINED, /* `sequence` does not fit an anchor: records from `since` to it were chained anew */
};

struct audit_verdict {
        /* the good stretch: records from first to last, which chain; 0: there is none */
        uint64_t first, last;
        uint64_t first_usec, last_usec;
        char last_hash[AUDIT_HASH_LENGTH + 1];
        uint64_t n_files;
        uint64_t n_torn_bytes; /* of an unfinished record at the end */
        uint64_t n_torn_events; /* how often lkmd cut one off at its start */
        /* anchors that records of the good stretch fit, and the last of them; NULL when none */
        uint64_t n_proved;
        const struct audit_anchor *proved;
        uint64_t n_before; /* anchors of records before @first, which are in none of these files */
        /* the first fault */
        enum audit_fault fault;
        uint64_t sequence; /* of the record that was written at the first place where the log is not what was written */
        uint64_t since;    /* the first one that may not be what was written: @sequence, or an earlier one when its hash is new */
        uint64_t other;
        bool rehashed;
        struct audit_position at; /* of the line that shows it, when has_position */
        bool has_position;
        const struct audit_anchor *anchor; /* that shows it, or NULL */
};

/**
 * audit_chain_verify() - look at the whole log
 * @anchors:     sorted by this; outlives the verdict
 * @ret_verdict: borrows from @anchors
 * @ret_failed:  with a failure of reading: the index of the file
 *
 * Return: 0, whether there is a fault or none; -errno of reading; -ENOMEM; -EIO when libcrypto fails.
 */
int audit_chain_verify(struct audit_verdict *ret_verdict, const struct audit_files *files, struct audit_anchors *anchors, size_t *ret_failed);
