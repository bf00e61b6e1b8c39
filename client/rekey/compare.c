/* SPDX-License-Identifier: Apache-2.0 */
#include "client/rekey/compare.h"

#include "client/lkm.h"
#include "client/rekey/answer.h"
#include "common/bytes.h"

static void statement_finalizep(sqlite3_stmt **statement)
{
        sqlite3_finalize(*statement);
}

static void sql_freep(char **sql)
{
        sqlite3_free(*sql);
}

int compare_schemas(struct handle *h, const struct work *work)
{
        /* Whatever one of them has and the other has not. */
        static const char sql[] = "SELECT type || ' ' || name FROM (SELECT * FROM (SELECT type, name, tbl_name, sql FROM target.sqlite_master EXCEPT "
                                  "SELECT type, name, tbl_name, sql FROM main.sqlite_master) UNION ALL SELECT * FROM (SELECT type, name, tbl_name, sql "
                                  "FROM main.sqlite_master EXCEPT SELECT type, name, tbl_name, sql FROM target.sqlite_master))";
        _cleanup_(freep) char *first = NULL;
        int r = handle_text(h, sql, &first);

        if (r == 0 && *first)
                r = answer_refuse(LKM_E_IO, "The copy of %s has not the same schema: \"%s\" differs. It was removed, and the database is as it was; please "
                                            "report this with the schema.",
                                  work->database, first);
        return r;
}

/* ---- rows ---- */

static bool same_value(sqlite3_stmt *a, sqlite3_stmt *b, int column)
{
        int type = sqlite3_column_type(a, column);
        double real_a, real_b;

        if (type != sqlite3_column_type(b, column))
                return false;
        switch (type) {
        case SQLITE_NULL:
                return true;
        case SQLITE_INTEGER:
                return sqlite3_column_int64(a, column) == sqlite3_column_int64(b, column);
        case SQLITE_FLOAT:
                real_a = sqlite3_column_double(a, column);
                real_b = sqlite3_column_double(b, column);
                return bytes_equal((struct bytes){ (const uint8_t *)&real_a, sizeof(real_a) }, (struct bytes){ (const uint8_t *)&real_b, sizeof(real_b) });
        default: {
                const uint8_t *data_a = sqlite3_column_blob(a, column), *data_b = sqlite3_column_blob(b, column);

                return bytes_equal((struct bytes){ data_a, (size_t)sqlite3_column_bytes(a, column) },
                                   (struct bytes){ data_b, (size_t)sqlite3_column_bytes(b, column) });
        }
        }
}

static bool same_row(sqlite3_stmt *a, sqlite3_stmt *b)
{
        int n = sqlite3_column_count(a);

        for (int i = 0; i < n; i++)
                if (!same_value(a, b, i))
                        return false;
        return n == sqlite3_column_count(b);
}

/* Without an index the rows come in the order of the table itself: by rowid, or by the primary key where there is none. */
static int rows_begin(struct handle *h, const char *schema, const char *table, sqlite3_stmt **ret_statement)
{
        _cleanup_(sql_freep) char *sql = sqlite3_mprintf("SELECT * FROM %s.\"%w\" NOT INDEXED", schema, table);

        return sql ? sqlite3_prepare_v2(h->db, sql, -1, ret_statement, NULL) : SQLITE_NOMEM;
}

/* Return: SQLite's code; SQLITE_MISMATCH when they differ. */
static int compare_rows(struct handle *h, const char *table, uint64_t *ret_n)
{
        _cleanup_(statement_finalizep) sqlite3_stmt *a = NULL, *b = NULL;
        int code = rows_begin(h, "main", table, &a), other;

        if (code == SQLITE_OK)
                code = rows_begin(h, "target", table, &b);
        if (code != SQLITE_OK)
                return code;
        for (*ret_n = 0;; (*ret_n)++) {
                code = sqlite3_step(a);
                other = sqlite3_step(b);
                if (code != SQLITE_ROW && code != SQLITE_DONE)
                        return code;
                if (other != SQLITE_ROW && other != SQLITE_DONE)
                        return other;
                if (code != other || (code == SQLITE_ROW && !same_row(a, b)))
                        return SQLITE_MISMATCH;
                if (code == SQLITE_DONE)
                        return SQLITE_OK;
        }
}

static int compare_table(struct handle *h, const struct work *work, const char *table)
{
        uint64_t n;
        int code = compare_rows(h, table, &n);

        if (code == SQLITE_MISMATCH)
                return answer_refuse(LKM_E_IO, "The copy of %s has not the same rows in \"%s\". It was removed, and the database is as it was; let every "
                                               "program close it, then ask again.",
                                     work->database, table);
        if (code != SQLITE_OK)
                return handle_refuse(h, code);
        answer_line("table %s %llu", table, (unsigned long long)n);
        return 0;
}

/* What a virtual table has lies in tables of its own, which are among them. */
int compare_tables(struct handle *h, const struct work *work)
{
        _cleanup_(statement_finalizep) sqlite3_stmt *tables = NULL;
        int code = sqlite3_prepare_v2(h->db, "SELECT name FROM main.sqlite_master WHERE type = 'table' AND rootpage > 0 ORDER BY name", -1, &tables, NULL);

        while (code == SQLITE_OK || code == SQLITE_ROW) {
                const char *name;
                int r;

                code = sqlite3_step(tables);
                if (code != SQLITE_ROW)
                        break;
                name = (const char *)sqlite3_column_text(tables, 0);
                r = name ? compare_table(h, work, name) : handle_refuse(h, SQLITE_NOMEM);
                if (r)
                        return r;
        }
        return code == SQLITE_DONE ? 0 : handle_refuse(h, code);
}
