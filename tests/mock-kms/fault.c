/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/mock-kms/fault.h"

static const char *const names[] = {
        [FAULT_THROTTLE] = "throttle",
        [FAULT_DELAY] = "delay",
        [FAULT_CUT] = "cut",
        [FAULT_STATUS] = "status",
        [FAULT_EXPIRE_TOKENS] = "expire-tokens",
        [FAULT_LOSE_REGION] = "lose-region",
        [FAULT_REDIRECT] = "redirect",
        [FAULT_GARBAGE] = "garbage",
};

enum fault_kind fault_kind_parse(const char *name)
{
        for (size_t i = 1; i < ELEMENTSOF(names); i++)
                if (strcmp(names[i], name) == 0)
                        return (enum fault_kind)i;
        return FAULT_NONE;
}

const char *fault_kind_name(enum fault_kind kind)
{
        return names[kind];
}

void faults_init(struct faults *s)
{
        list_init(&s->list);
}

static void fault_free(struct fault *f)
{
        list_unlink(&f->link);
        free(f->service);
        free(f->operation);
        free(f->region);
        free(f->body);
        free(f->location);
        free(f);
}

void faults_deinit(struct faults *s)
{
        struct list *node, *following;

        list_for_each_safe (node, following, &s->list)
                fault_free(list_entry(node, struct fault, link));
}

void fault_add(struct faults *s, const struct fault *f)
{
        struct fault *copy = memory_new(sizeof(*copy));

        copy->kind = f->kind;
        copy->count = f->count;
        copy->delay_msec = f->delay_msec;
        copy->status = f->status;
        copy->retry_after = f->retry_after;
        text_set(&copy->service, f->service);
        text_set(&copy->operation, f->operation);
        text_set(&copy->region, f->region);
        text_set(&copy->body, f->body);
        text_set(&copy->location, f->location);
        list_init(&copy->link);
        list_append(&s->list, &copy->link);
}

/* The operation itself, or a path that it begins: "transit/decrypt" matches "transit/decrypt/NAME". */
static bool operation_matches(const char *wanted, const char *operation)
{
        size_t n = strlen(wanted);

        return strncmp(operation, wanted, n) == 0 && (operation[n] == '\0' || operation[n] == '/');
}

static bool matches(const struct fault *f, const char *service, const struct request *r)
{
        return (!f->service || strcmp(f->service, service) == 0) &&
               (!f->operation || operation_matches(f->operation, r->operation)) &&
               (!f->region || strcmp(f->region, r->region) == 0);
}

void fault_take(struct fault_plan *ret, struct faults *s, const char *service, const struct request *r)
{
        struct list *node, *following;

        *ret = (struct fault_plan){ 0 };
        list_for_each_safe (node, following, &s->list) {
                struct fault *f = list_entry(node, struct fault, link);

                if (!matches(f, service, r) || (f->kind != FAULT_DELAY && ret->kind != FAULT_NONE))
                        continue;
                ret->delay_msec += f->delay_msec;
                if (f->kind != FAULT_DELAY) {
                        ret->kind = f->kind;
                        ret->status = f->status;
                        ret->retry_after = f->retry_after;
                        text_set(&ret->body, f->body);
                        text_set(&ret->location, f->location);
                }
                if (f->count > 0 && --f->count == 0)
                        fault_free(f);
        }
}

void fault_plan_deinit(struct fault_plan *p)
{
        free(p->body);
        free(p->location);
}
