/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-file: a small file that has to do with credentials, read into locked memory from its first byte on, if its owner and its mode let nobody else
 * in. Knows nothing of the content.
 */
#pragma once

#include <stdbool.h>

#include "common/secret.h"
#include "daemon/kms/provider.h"

enum aws_file_kind {
        AWS_FILE_KEYS,   /* holds secrets: nobody else may read or change it */
        AWS_FILE_CONFIG, /* says what is run and asked: nobody else may change it */
        AWS_FILE_TOKEN,  /* put there by an orchestrator, who decides who reads it */
};

/**
 * aws_file_read() - read all of @path
 * @ret_text: its bytes, or NULL for an empty file
 * @ret_private: whether nobody else can read it; may be NULL
 * A credential of systemd may be readable by its group, since systemd shows its ACL mask there.
 * Return: 0; -ENOENT; -EACCES for owner or mode; -EFBIG over SECRET_BODY_MAX; or another -errno; always with *ret_why filled.
 */
int aws_file_read(struct secret **ret_text, bool *ret_private, const char *path, enum aws_file_kind kind, struct sentence *ret_why);
