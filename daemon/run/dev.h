/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dev: what `lkm-run --dev` works with: a private configuration, KEK, audit log and sockets in the XDG directories of
 * the user, made when they are missing and kept when they exist. Starts lkm-kms once, to make the KEK.
 */
#pragma once

/**
 * dev_prepare() - make what is missing
 * @kms_program:     path of lkm-kms
 * @ret_config_path: of the configuration; release with free()
 * Return: 0; -errno, having logged a sentence.
 */
int dev_prepare(const char *kms_program, char **ret_config_path);
