/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/question.h"

#include <errno.h>

#include "daemon/request.h"

static void question_fill(struct kms_call *call, union message *ret_message)
{
        const struct question *q = call->userdata;
        struct bytes kek = bytes_from_string(q->kek);
        uint32_t left_msec = kms_call_left_msec(call);

        if (q->number == MESSAGE_KMS_CHECK)
                ret_message->kms_check =
                        (struct message_kms_check){ .number_ = MESSAGE_KMS_CHECK, .kek = kek, .timeout_msec = left_msec };
        else if (q->number == MESSAGE_KMS_POLICY)
                ret_message->kms_policy =
                        (struct message_kms_policy){ .number_ = MESSAGE_KMS_POLICY, .kek = kek, .timeout_msec = left_msec };
        else
                ret_message->kms_describe = (struct message_kms_describe){ .number_ = MESSAGE_KMS_DESCRIBE, .kek = kek };
}

static void question_answered(struct kms_call *call, unsigned error, const union message *reply, const char *sentence)
{
        struct question *q = call->userdata;
        struct lkmd *d = q->daemon;

        q->error = error;
        q->sentence = sentence;
        if (error == 0 && reply->number == MESSAGE_REPORT) {
                q->json = reply->report.json;
        } else if (error == 0) {
                q->error = PROTO_ERROR_KMS_MISCONFIGURED;
                q->sentence = "the KMS worker gave an answer that does not fit the question";
        }
        while (!list_is_empty(&q->waiters)) {
                struct request *r = list_entry(q->waiters.next, struct request, link);

                list_unlink(&r->link);
                r->question = q;
                request_resume(r, NULL);
        }
        d->n_questions--;
        free(q);
        lkmd_stop_if_drained(d);
}

int question_start(struct question **ret_question, struct lkmd *d, enum message_number number, struct bytes kek, uint64_t timeout_usec)
{
        struct question *q = calloc(1, sizeof(*q));
        int r;

        if (!q)
                return -ENOMEM;
        q->daemon = d;
        q->number = number;
        list_init(&q->waiters);
        snprintf(q->kek, sizeof(q->kek), "%.*s", (int)kek.n, kek.n ? (const char *)kek.data : "");
        q->call.fill = question_fill;
        q->call.done = question_answered;
        q->call.userdata = q;
        r = kms_link_call(d->kms, &q->call, timeout_usec);
        if (r < 0) {
                free(q);
                return r;
        }
        d->n_questions++;
        *ret_question = q;
        return 0;
}
