/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adopt-key: which key opens a database. The file does not say by which rounds, digest and page size it was made: each way to make a key of what
 * the user knows is tried on the HMAC of page 1, which costs nothing but PBKDF2 and tells the format and the page size too.
 */
#include "client/adopt.h"

#include <errno.h>

#include "client/kdf.h"
#include "client/passphrase.h"
#include "client/rekey/page.h"

/** A way in which programs make keys of passphrases. */
struct way {
        unsigned compatibility; /* 0: any */
        enum kdf_digest digest;
        uint32_t rounds;
};

/* SQLCipher 4, 3 and 2, each with the settings that it has unless told otherwise. A database of 2 is one of format 3 but for the rounds. */
static const struct way sqlcipher_ways[] = { { 4, KDF_SHA512, 256000 }, { 3, KDF_SHA1, 64000 }, { 3, KDF_SHA1, 4000 } };
/* Side files that do not say: what such programs did for years, and what OWASP asks for now. */
static const struct way sidefile_ways[] = { { 0, KDF_SHA256, 100000 }, { 0, KDF_SHA256, 600000 } };

/* ---- what the user knows ---- */

static int ask(const struct adoption *a, struct secret **ret_text)
{
        char why[PASSPHRASE_WHY_MAX], prompt[512];
        struct passphrase_source source = { .fd = a->passphrase_fd, .name = adoption_options(a)->passphrase_file, .prompt = prompt };
        int r;

        snprintf(prompt, sizeof(prompt), "%s of %s: ", adoption_options(a)->raw ? "Raw key" : "Passphrase", a->database);
        text_harmless(prompt);
        r = passphrase_read(ret_text, &source, why);
        if (r == -EINTR)
                return error_set(adoption_lkm(a), LKM_E_CANCELLED, "cancelled. Nothing was changed.");
        return r < 0 ? error_set(adoption_lkm(a), LKM_E_IO, "%s.", why) : 0;
}

/* ---- one key ---- */

/* Whether @key fits page 1 in that format; then the adoption has both. */
static int try_page(struct adoption *a, struct secret *key, unsigned compatibility, uint32_t page_size, bool *ret_fits)
{
        _cleanup_(page_key_freep) struct page_key *ready = NULL;
        struct page_format format;

        if (page_size > a->n_head || !page_format_init(&format, compatibility, page_size))
                return 0;
        if (page_key_new(&ready, &format, key, a->head) < 0)
                return error_set_default(adoption_lkm(a), LKM_E_NO_MEMORY);
        if (!page_fits(ready, a->head, 1))
                return 0;
        a->compatibility = compatibility;
        a->page_size = page_size;
        a->key = secret_ref(key);
        *ret_fits = true;
        return 0;
}

static int try_key(struct adoption *a, struct secret *key, unsigned compatibility, bool *ret_fits)
{
        unsigned told = adoption_options(a)->compatibility, only = told ? told : compatibility;
        uint32_t page_size = adoption_options(a)->page_size;
        int r = 0;

        for (unsigned format = 4; format >= 3 && r == 0; format--) {
                for (uint32_t size = PAGE_SIZE_MIN; size <= PAGE_SIZE_MAX && r == 0 && !*ret_fits; size *= 2) {
                        if ((!only || only == format) && (!page_size || page_size == size))
                                r = try_page(a, key, format, size, ret_fits);
                }
        }
        return r;
}

static int try_way(struct adoption *a, const struct way *way, struct secret *text, struct bytes salt, bool *ret_fits)
{
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        unsigned told = adoption_options(a)->compatibility;
        int r;

        if (*ret_fits || (told && way->compatibility && told != way->compatibility))
                return 0;
        r = kdf_pbkdf2(&key, way->digest, text, salt, way->rounds);
        return r < 0 ? error_set_errno(adoption_lkm(a), r, "PBKDF2") : try_key(a, key, way->compatibility, ret_fits);
}

/* ---- all keys ---- */

static int try_sidefile(struct adoption *a, struct secret *text, bool *ret_fits)
{
        const struct sidefile *s = &a->sidefile;
        const struct way said = { 0, KDF_SHA256, adoption_options(a)->rounds ? adoption_options(a)->rounds : s->rounds };
        size_t n_ways = said.rounds ? 1 : ELEMENTSOF(sidefile_ways);
        int r = 0;

        for (size_t i = 0; i < s->n_salts; i++) {
                for (size_t k = 0; k < n_ways && r == 0; k++)
                        r = try_way(a, said.rounds ? &said : &sidefile_ways[k], text, (struct bytes){ s->salts[i].bytes, s->salts[i].n }, ret_fits);
        }
        return r;
}

static int try_raw(struct adoption *a, struct secret *text, bool *ret_is_raw, bool *ret_fits)
{
        _cleanup_(secret_unrefp) struct secret *key = NULL;
        int r = kdf_raw(&key, text, (struct bytes){ a->head, ADOPT_SALT_SIZE });

        *ret_is_raw = r != KDF_E_NOT_RAW;
        if (r == KDF_E_NOT_RAW)
                return adoption_options(a)->raw ? error_set(adoption_lkm(a), LKM_E_WRONG_KEY,
                                                   "that is no raw key, which has 64 hex digits, or is x'64 digits' or, with the salt, x'96 digits'. Leave --raw out "
                                                   "for a passphrase.")
                                       : 0;
        if (r == KDF_E_OTHER_SALT)
                return error_set(adoption_lkm(a), LKM_E_WRONG_KEY,
                                 "the last 32 digits of the raw key are not the database's first 16 bytes, so it is the key of another database. Nothing was changed.");
        return r < 0 ? error_set_errno(adoption_lkm(a), r, "raw key") : try_key(a, key, 0, ret_fits);
}

static int try_passphrase(struct adoption *a, struct secret *text, bool *ret_fits)
{
        const struct bytes salt = { a->head, ADOPT_SALT_SIZE };
        bool is_raw = false;
        /* SQLCipher, too, takes what has the form of a raw key for one. */
        int r = try_raw(a, text, &is_raw, ret_fits);

        for (size_t i = 0; i < ELEMENTSOF(sqlcipher_ways) && r == 0 && !is_raw; i++) {
                struct way way = sqlcipher_ways[i];

                /* The last one differs by its rounds alone. */
                if (adoption_options(a)->rounds && i == 2)
                        break;
                way.rounds = adoption_options(a)->rounds ? adoption_options(a)->rounds : way.rounds;
                r = try_way(a, &way, text, salt, ret_fits);
        }
        return r;
}

static int refuse_key(const struct adoption *a)
{
        const char *what = adoption_options(a)->raw ? "raw key" : "passphrase", *more = "";
        _cleanup_(freep) char *journal = NULL;

        if (asprintf(&journal, "%s-journal", a->database) < 0)
                journal = NULL;
        if (journal && access(journal, F_OK) == 0)
                more = " If it is right, a crash has damaged the first page, which the -journal beside it puts right: open the database once with the program that "
                       "made it.";
        return error_set(adoption_lkm(a), LKM_E_WRONG_KEY,
                         "the %s does not open it. Check the %s%s.%s Nothing was changed.", what, what,
                         adoption_options(a)->raw      ? ""
                         : adoption_options(a)->side_file ? "; other rounds than usual are told by --rounds, and a passphrase of SQLCipher's own goes without --side-file"
                                              : "; other rounds than SQLCipher's own are told by --rounds, and a salt in a file of its own by --side-file",
                         more);
}

/* ---- the proof ---- */

int adoption_progress(void *userdata, uint64_t done, uint64_t total)
{
        return each_is_cancelled();
}

int adoption_worker_failed(struct lkm *lkm, int r, const struct worker_result *result)
{
        if (r == WORKER_E_REFUSED)
                return error_set(lkm, result->error, "%s", result->sentence);
        if (r == -ENOENT)
                return error_set(lkm, LKM_E_IO, "lkm-rekey is not installed. Install all of lkm again.");
        if (r < 0)
                return error_set(lkm, LKM_E_IO, "cannot start lkm-rekey: %s.", strerror(-r));
        if (r == WORKER_E_CANCELLED)
                return error_set(lkm, LKM_E_CANCELLED, "cancelled. Nothing was changed.");
        return error_set(lkm, LKM_E_IO, "lkm-rekey ended before its work was done. Run the same command again: it goes on from here.");
}

int adoption_run(const struct adoption *a, const char *command, const char *database, struct secret *key, uint32_t version, struct worker_result *ret_result)
{
        const struct worker_key one = { .version = version, .key = key };
        const struct worker_task task = {
                .command = command,
                .database = database,
                .compatibility = a->compatibility,
                .page_size = a->page_size,
                .timeout_msec = a->each.c->timeout_msec ? a->each.c->timeout_msec : ADOPT_WAIT_MSEC,
                .keys = &one,
                .n_keys = 1,
                .lock_fd = -1,
                .progress = adoption_progress,
        };
        int r = worker_run(&task, ret_result);

        return r ? adoption_worker_failed(adoption_lkm(a), r, ret_result) : 0;
}

/* Page 1 is one of many. */
static int prove(struct adoption *a)
{
        struct worker_result result;
        int r = adoption_run(a, "probe", a->database, a->key, 1, &result);

        if (r || result.n_opens == 1)
                return r;
        return error_set(adoption_lkm(a), LKM_E_MIXED,
                         "the key is right, but does not fit %llu of the %llu pages, which are damaged. Restore the database from a backup, or open and repair it "
                         "with the program that made it. Nothing was changed.",
                         (unsigned long long)result.n_unknown_pages, (unsigned long long)result.n_pages);
}

int adoption_find_key(struct adoption *a)
{
        _cleanup_(secret_unrefp) struct secret *text = NULL;
        bool fits = false;
        int r = ask(a, &text);

        if (r == 0)
                r = adoption_options(a)->side_file ? try_sidefile(a, text, &fits) : try_passphrase(a, text, &fits);
        if (r == 0 && !fits)
                r = refuse_key(a);
        return r ? r : prove(a);
}
