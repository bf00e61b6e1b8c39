/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lkm: keys for encrypted databases, from lkmd. Link with `pkg-config --cflags --libs lkm`.
 *
 *     struct lkm *lkm;
 *     struct lkm_key *key;
 *     if (lkm_connect(&lkm, NULL) == 0 && lkm_get_or_create(lkm, "/var/lib/clinic/patients.db", NULL, &key) == 0)
 *             …
 *
 * A database's wrapped key is kept in its record, the file {database path}.key beside it. This library reads and writes
 * that file, as the database's owner; its content is opaque. Keys lie in locked memory that is never swapped, dumped or
 * inherited by a fork, and are reached through views only.
 *
 * Every function that returns int returns 0, or a positive `enum lkm_error`; outputs are untouched on failure. A handle,
 * and a key, may be used by one thread at a time; different handles and keys by different threads at once.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define LKM_PUBLIC __attribute__((__visibility__("default")))

/** A session with lkmd; released by lkm_free(). */
struct lkm;
/** A key in locked memory; released by lkm_key_free(). Independent of the handle that it came through. */
struct lkm_key;

/** What went wrong. The numbers are stable; up to 99 they come from lkmd. lkm_strerror() says what each one means; a later
 *  daemon may send numbers that are not listed here. */
enum lkm_error {
        LKM_E_PROTOCOL = 1,
        LKM_E_VERSION = 2,
        LKM_E_UNSUPPORTED = 3,
        LKM_E_QUOTA = 4,
        LKM_E_INTERNAL = 5,
        LKM_E_DENIED = 10,
        LKM_E_LOCKED = 11,
        LKM_E_AUDIT_UNAVAILABLE = 12,
        LKM_E_SHUTTING_DOWN = 13,
        LKM_E_SCOPE_UNKNOWN = 14,
        LKM_E_SCOPE_NEEDED = 15,
        LKM_E_RECORD_DAMAGED = 20,
        LKM_E_RECORD_FOREIGN = 21,
        LKM_E_RECORD_NEWER = 22,
        LKM_E_RECORD_OUTDATED = 23,
        LKM_E_VERSION_UNKNOWN = 24,
        LKM_E_ROTATION_IN_PROGRESS = 25,
        LKM_E_NOT_CACHED = 26,
        LKM_E_RECORD_FULL = 27,
        LKM_E_NOT_PENDING = 28,
        LKM_E_VERSION_IN_USE = 29,
        LKM_E_KEK_UNAVAILABLE = 30,
        LKM_E_KEK_DENIED = 31,
        LKM_E_KEK_MISCONFIGURED = 32,
        LKM_E_IO = 100,             /* a file could not be read or written */
        LKM_E_NO_DAEMON = 101,      /* nothing answers at the socket */
        LKM_E_TIMEOUT = 102,        /* no answer within the deadline */
        LKM_E_KEY_MISSING = 103,    /* the database exists, its .key does not; a new key is never made for it */
        LKM_E_EXISTS = 104,         /* the database or its .key exists; nothing is ever overwritten */
        LKM_E_NOT_FOUND = 105,      /* neither exists */
        LKM_E_PLAINTEXT = 106,      /* the database is not encrypted */
        LKM_E_WRONG_KEY = 107,      /* the key does not open the database */
        LKM_E_NO_CODEC = 108,       /* the SQLite library cannot encrypt */
        LKM_E_MEMLOCK = 109,        /* memory for keys cannot be locked */
        LKM_E_ARGUMENT = 110,       /* a bug of the caller */
        LKM_E_NO_MEMORY = 111,      /* out of memory, or more than `max_keys` keys are held */
        LKM_E_FORKED = 112,         /* the handle or key, or the locked memory, belongs to the parent process */
        LKM_E_CIPHER_VERSION = 113, /* the database needs a newer SQLCipher */
        LKM_E_BUSY = 114,           /* see the function; or another process locks the database */
        LKM_E_MIXED = 115,          /* no known key opens the whole database; nothing was touched */
        LKM_E_CANCELLED = 116,      /* the callback asked for it; the database is as before */
        LKM_E_NO_SPACE = 117,       /* too little space beside the database; nothing was changed */
};

/** lkm_version() - "0.1.0". Return: static text, never NULL. */
LKM_PUBLIC const char *lkm_version(void);
/** lkm_strerror() - what @error means and what to do, one or two sentences. Return: static text, never NULL. */
LKM_PUBLIC const char *lkm_strerror(int error);
/** lkm_error_name() - "DENIED" for LKM_E_DENIED, for logs and programs. Return: static text; "?" for an unknown number. */
LKM_PUBLIC const char *lkm_error_name(int error);
/**
 * lkm_error_message() - the sentence for people about the last failure of @lkm: what happened, to which file, what to do
 * @lkm: borrowed; or NULL for the last failed lkm_connect() or lkm_lease_yield() of this thread
 * Return: text that is valid until the next call with @lkm (or lkm_connect()); "" when nothing has failed. Never NULL.
 */
LKM_PUBLIC const char *lkm_error_message(const struct lkm *lkm);

/* ---- sessions ---- */

/** How to connect. Zero in a member means its default; fill the rest with zeros, which later versions rely on. */
struct lkm_options {
        const char *socket;    /* NULL: $LKM_SOCKET, else $XDG_RUNTIME_DIR/lkm/lkm.sock where it exists, else /run/lkm/lkm.sock */
        const char *software;  /* name of the application in the daemon's log, at most 64 bytes; NULL: "liblkm VERSION" */
        uint32_t timeout_msec; /* deadline of each call; 0: 10,000 */
        uint32_t max_keys;     /* keys held at once in the whole process; only the first handle's counts; 0: 128 */
        uint64_t reserved[4];  /* 0 */
};

/**
 * lkm_connect() - open a session
 * @ret_lkm: on success the handle, release with lkm_free()
 * @options: borrowed for the call; NULL for the defaults. The environment is ignored in set-user-ID programs.
 *
 * The first call of a process reserves and locks the memory for keys, about 80 KiB. A session that the daemon ends (it was
 * restarted) is opened again by the next call, and by one that is under way. Nothing is asked of the daemon yet.
 *
 * Return: 0; LKM_E_NO_DAEMON, LKM_E_TIMEOUT, LKM_E_MEMLOCK, LKM_E_ARGUMENT, LKM_E_NO_MEMORY; LKM_E_FORKED in a child of a process
 *         that had connected before.
 */
LKM_PUBLIC int lkm_connect(struct lkm **ret_lkm, const struct lkm_options *options);
/** lkm_free() - end the session and set *@lkm to NULL. Unanswered asynchronous requests call back with LKM_E_NO_DAEMON. Allowed
 *  in a forked child, where it closes the descriptor only, and for NULL; not from a callback. */
LKM_PUBLIC void lkm_free(struct lkm **lkm);
/** lkm_ping() - ask whether the daemon answers. Return: 0; LKM_E_NO_DAEMON, LKM_E_TIMEOUT, LKM_E_VERSION, LKM_E_BUSY, LKM_E_FORKED. */
LKM_PUBLIC int lkm_ping(struct lkm *lkm);

/* ---- keys by database path ---- */

/** What to write down with a new key. Zero in a member means: not said. */
struct lkm_create_options {
        const char *scope;             /* scope that is to own the key; NULL: the only one that admits the caller */
        const char *cipher_library;    /* library that will write the database, "sqlcipher"; at most 32 bytes */
        uint32_t cipher_compatibility; /* its major format version, 3 or 4; at most 255 */
        uint32_t page_size;            /* bytes */
        const char *label;             /* name of the database for people, in its record and in the audit log; at most 64 bytes */
        uint64_t reserved[3];          /* 0 */
};

/**
 * lkm_initialize() - make the key of a new database
 * @lkm:           borrowed
 * @database_path: where the database will be; its record is written to {database_path}.key, mode 0600
 * @options:       borrowed for the call; NULL for the defaults
 * @ret_key:       on success the key, release with lkm_key_free()
 *
 * The record is on the disk, durably, before the key is given out. Of several creators at once one wins.
 *
 * Return: 0; LKM_E_EXISTS when the record, the database or its -wal or -journal exists; LKM_E_IO; LKM_E_BUSY while asynchronous
 *         requests are unanswered; LKM_E_ARGUMENT, LKM_E_NO_MEMORY, LKM_E_FORKED, LKM_E_NO_DAEMON, LKM_E_TIMEOUT, or what the daemon
 *         says: LKM_E_DENIED, LKM_E_SCOPE_NEEDED, LKM_E_KEK_UNAVAILABLE, …
 */
LKM_PUBLIC int lkm_initialize(struct lkm *lkm, const char *database_path, const struct lkm_create_options *options,
                              struct lkm_key **ret_key);
/**
 * lkm_load() - the key of a database that has one
 * @scope: refuse a record of another scope; NULL: any
 *
 * A record of format 1 is upgraded on the way, its file replaced atomically; where the directory or the file's owner forbids
 * that, the file stays as it is. A rotation that was interrupted is ended first, as by lkm_recover(); one that is under way is waited for.
 *
 * Return: 0; LKM_E_KEY_MISSING when there is a database, and LKM_E_NOT_FOUND when there is none; LKM_E_IO;
 *         LKM_E_RECORD_DAMAGED (also when the .key is no regular file, empty, or over 64 KiB), LKM_E_RECORD_FOREIGN, LKM_E_RECORD_NEWER;
 *         else as lkm_initialize().
 */
LKM_PUBLIC int lkm_load(struct lkm *lkm, const char *database_path, const char *scope, struct lkm_key **ret_key);
/**
 * lkm_load_version() - the key of any version that the record still has, for a backup that was written under it
 * @version: 1 or more; lkmctl history lists them
 * A retired version needs a right of its own, `allow_history`. No rotation is ended by this.
 * Return: 0; LKM_E_VERSION_UNKNOWN; else as lkm_load().
 */
LKM_PUBLIC int lkm_load_version(struct lkm *lkm, const char *database_path, uint32_t version, struct lkm_key **ret_key);
/** lkm_get_or_create() - lkm_load(), or lkm_initialize() when neither record nor database exist. When another process creates the
 *  record meanwhile, its key is loaded. Return: as these two, but LKM_E_EXISTS and LKM_E_NOT_FOUND. */
LKM_PUBLIC int lkm_get_or_create(struct lkm *lkm, const char *database_path, const struct lkm_create_options *options,
                                 struct lkm_key **ret_key);
/**
 * lkm_get() - the key of a record that the caller has in memory; touches no file
 * @record, @n_record: content of a .key file, borrowed
 * @scope:             refuse a record of another scope; NULL: any
 * Return: 0; LKM_E_RECORD_OUTDATED for a record of format 1, which lkm_load() upgrades; else as lkm_load().
 */
LKM_PUBLIC int lkm_get(struct lkm *lkm, const void *record, size_t n_record, const char *scope, struct lkm_key **ret_key);

/* ---- keys ---- */

/** The forms in which a key can be viewed. */
enum lkm_format {
        LKM_FORMAT_RAW = 0,    /* 32 bytes */
        LKM_FORMAT_HEX = 1,    /* 64 lower-case hex digits, and a NUL that is not counted */
        LKM_FORMAT_PRAGMA = 2, /* x'<64 digits>', 67 characters, as sqlite3_key_v2() takes it, and a NUL that is not counted */
};

enum lkm_key_flags {
        LKM_KEY_STALE = 1,        /* the key service is away; the daemon served the key from its cache */
        LKM_KEY_ROTATION_DUE = 2, /* the scope's policy asks for a new key */
};

/** What a record says about its key and database; strings belong to the key. */
struct lkm_key_info {
        uint8_t database_id[16];
        uint32_t version;              /* of the key */
        uint32_t flags;                /* enum lkm_key_flags */
        const char *scope;             /* never NULL */
        const char *cipher_library;    /* "" when not said */
        uint32_t cipher_compatibility; /* 0 when not said */
        uint32_t page_size;            /* bytes; 0 when not said */
        uint32_t pending;              /* version of a rotation that has not ended; 0: none */
        uint32_t reserved_32;          /* 0 */
        uint64_t reserved[4];          /* 0 */
};

/** lkm_key_free() - wipe and release, and set *@key to NULL; ends an open view. NULL is allowed. In a forked child it wipes
 *  nothing, since the child never had the bytes. */
LKM_PUBLIC void lkm_key_free(struct lkm_key **key);
/** lkm_key_info() - fill @ret_info, whose strings are valid until lkm_key_free(). Return: 0 or LKM_E_ARGUMENT. */
LKM_PUBLIC int lkm_key_info(const struct lkm_key *key, struct lkm_key_info *ret_info);
/**
 * lkm_key_view_begin() - borrow a key's bytes; one view of a key at a time
 * @ret_bytes, @ret_n: the bytes, in locked memory, until lkm_key_view_end(). Do not copy them.
 * Return: 0; LKM_E_BUSY when a view is open, or too many formatted views of other keys; LKM_E_ARGUMENT; LKM_E_FORKED.
 */
LKM_PUBLIC int lkm_key_view_begin(struct lkm_key *key, enum lkm_format format, const uint8_t **ret_bytes, size_t *ret_n);
/** lkm_key_view_end() - give the view back, wipe formatted text, and set *@bytes to NULL. */
LKM_PUBLIC void lkm_key_view_end(struct lkm_key *key, const uint8_t **bytes);

/* ---- rotation ----
 *
 * A rotation makes a new key and re-encrypts the database with it. At every instant the record has the key that opens the file, whatever
 * crashes or fails; an interrupted rotation is finished or undone by the next lkm_load(), lkm_sqlcipher_open(), lkm_rotate() or lkm_recover().
 * The database must be SQLCipher's, and closed, by this process too. */

enum lkm_phase {
        LKM_PHASE_CHECK = 1,   /* space, permissions, versions, who has the database open */
        LKM_PHASE_QUIESCE = 2, /* asking the holders of leases to close it */
        LKM_PHASE_REKEY = 3,   /* re-encrypting; `done` of `total` bytes */
        LKM_PHASE_VERIFY = 4,  /* a second process checks every page; `done` of `total` bytes */
        LKM_PHASE_COMMIT = 5,  /* writing the record */
};

struct lkm_progress {
        enum lkm_phase phase;
        uint64_t done, total; /* bytes of the phase; 0 of 0 where it has none */
        uint64_t reserved[4]; /* 0 */
};

/** lkm_progress_callback() - told at least each second. Return: 0 to go on; another value cancels as long as the database has not wholly
 *  changed, and the call then returns LKM_E_CANCELLED with everything as it was. Must not call liblkm. */
typedef int lkm_progress_callback(void *userdata, const struct lkm_progress *progress);

/** Zero in a member means its default. */
struct lkm_rotate_options {
        lkm_progress_callback *progress; /* NULL: none */
        void *userdata;
        uint32_t timeout_msec; /* how long to wait for others to close the database; 0: 10,000 */
        uint32_t reserved_32;  /* 0 */
        uint64_t reserved[4];  /* 0 */
};

/**
 * lkm_rotate() - give a database a new key
 * @options: borrowed for the call; NULL for the defaults
 *
 * Return: 0, and the new key alone opens the database; LKM_E_BUSY when others have it open, lkm_error_message() names them;
 *         LKM_E_ROTATION_IN_PROGRESS when another process rotates it; LKM_E_NO_SPACE, LKM_E_IO, LKM_E_NOT_FOUND, LKM_E_PLAINTEXT, LKM_E_WRONG_KEY,
 *         LKM_E_CIPHER_VERSION: refused before anything was changed; LKM_E_CANCELLED; LKM_E_RECORD_FULL; LKM_E_MIXED; else as lkm_load(). After
 *         every error but LKM_E_MIXED the database opens as before, or after one more lkm_recover() when the daemon is away.
 */
LKM_PUBLIC int lkm_rotate(struct lkm *lkm, const char *database_path, const struct lkm_rotate_options *options);

enum lkm_recovery {
        LKM_RECOVERY_NOTHING = 0,  /* no rotation was interrupted */
        LKM_RECOVERY_FINISHED = 1, /* the new key is the database's */
        LKM_RECOVERY_UNDONE = 2,   /* the old key still is */
};

/**
 * lkm_recover() - finish or undo an interrupted rotation, by which key every page of the file fits
 * @ret_recovery: may be NULL
 * Return: 0; LKM_E_ROTATION_IN_PROGRESS when it is still under way; LKM_E_MIXED; else as lkm_rotate().
 */
LKM_PUBLIC int lkm_recover(struct lkm *lkm, const char *database_path, const struct lkm_rotate_options *options,
                           enum lkm_recovery *ret_recovery);
/** lkm_needs_rotation() - whether the scope's period is over for the key, or an interrupted rotation waits to be ended.
 *  @ret_needed: 0 or 1. Return: 0, else as lkm_load(). */
LKM_PUBLIC int lkm_needs_rotation(struct lkm *lkm, const char *database_path, int *ret_needed);

/* ---- leases ----
 *
 * A program that keeps a database open takes a lease, and asks now and then, between two transactions, whether a rotation wants it:
 *
 *     if (lkm_lease_is_wanted(lease)) {
 *             sqlite3_close(db);
 *             lkm_lease_yield(lease, 0);
 *             lkm_sqlcipher_open(path, 0, NULL, &db);
 *     }
 */

/** A lease of one database, on a session of its own; released by lkm_lease_free(). */
struct lkm_lease;

/** lkm_lease_new() - take a lease, before the database is opened; waits while a rotation has it. @lkm: whose socket and deadline are used;
 *  need not outlive the lease. Return: 0; LKM_E_ROTATION_IN_PROGRESS when the wait was too long; else as lkm_load(). */
LKM_PUBLIC int lkm_lease_new(struct lkm *lkm, const char *database_path, struct lkm_lease **ret_lease);
/** lkm_lease_free() - give the lease back, after the database was closed, and set *@lease to NULL. NULL is allowed. */
LKM_PUBLIC void lkm_lease_free(struct lkm_lease **lease);
/** lkm_lease_fd() - readable when lkm_lease_is_wanted() may have become 1; it changes when the daemon was restarted. Return: it, or -1. */
LKM_PUBLIC int lkm_lease_fd(const struct lkm_lease *lease);
/** lkm_lease_is_wanted() - never waits; takes the lease anew when the daemon was restarted. Return: 1 when the database has to be closed,
 *  else 0. */
LKM_PUBLIC int lkm_lease_is_wanted(struct lkm_lease *lease);
/** lkm_lease_yield() - the database is closed; wait until the rotation has ended, at most @timeout_msec (0: 10 minutes).
 *  Return: 0, open it again; LKM_E_TIMEOUT, yield again; LKM_E_NO_DAEMON when none came back within the deadline of the handle; LKM_E_FORKED;
 *          when the lease had to be taken anew, as lkm_lease_new(). lkm_error_message(NULL) tells more. */
LKM_PUBLIC int lkm_lease_yield(struct lkm_lease *lease, uint32_t timeout_msec);

/* ---- asynchronous use, for event loops ----
 *
 * Begin requests, then: poll lkm_fd() for lkm_events() for at most lkm_timeout_msec(), call lkm_dispatch(), repeat. While requests
 * are unanswered, the synchronous functions above refuse with LKM_E_BUSY. */

/**
 * lkm_key_callback() - the answer to one request, called from lkm_dispatch() or lkm_free()
 * @error:   0 or an enum lkm_error
 * @message: the sentence about @error, valid during the call; "" for 0
 * @key:     the callee's, release with lkm_key_free(); NULL on failure
 * May begin further requests; must not call lkm_dispatch() or lkm_free().
 */
typedef void lkm_key_callback(void *userdata, int error, const char *message, struct lkm_key *key);

/** lkm_get_begin() - lkm_get() that calls @callback later. @record is copied; up to 128 requests may be unanswered. Return: 0, and
 *  @callback will be called exactly once; else it never is: LKM_E_BUSY (too many unanswered), LKM_E_ARGUMENT, LKM_E_NO_DAEMON,
 *  LKM_E_NO_MEMORY, LKM_E_FORKED. */
LKM_PUBLIC int lkm_get_begin(struct lkm *lkm, const void *record, size_t n_record, const char *scope, lkm_key_callback *callback,
                             void *userdata);
/** lkm_load_begin() - lkm_load() that calls @callback later; the record's file is read at once. It ends no rotation: then the error is
 *  LKM_E_ROTATION_IN_PROGRESS, and lkm_recover() helps. Return: as lkm_get_begin(), or the
 *  errors of lkm_load() about the file. */
LKM_PUBLIC int lkm_load_begin(struct lkm *lkm, const char *database_path, const char *scope, lkm_key_callback *callback,
                              void *userdata);
/** lkm_fd() - the descriptor to poll; ask again after a *_begin() that followed LKM_E_NO_DAEMON. Return: it, or -1 while not connected. */
LKM_PUBLIC int lkm_fd(const struct lkm *lkm);
/** lkm_events() - what to poll for now. Return: POLLIN, or POLLIN | POLLOUT. */
LKM_PUBLIC short lkm_events(const struct lkm *lkm);
/** lkm_timeout_msec() - when to call lkm_dispatch() at the latest. Return: milliseconds, or -1 when nothing is unanswered. */
LKM_PUBLIC int lkm_timeout_msec(const struct lkm *lkm);
/** lkm_dispatch() - send and receive what is possible without waiting, and call back; requests over their deadline get LKM_E_TIMEOUT.
 *  Return: 0; LKM_E_NO_DAEMON or LKM_E_PROTOCOL when the session ended, after all callbacks; LKM_E_BUSY from a callback; LKM_E_FORKED. */
LKM_PUBLIC int lkm_dispatch(struct lkm *lkm);

#ifdef __cplusplus
}
#endif
