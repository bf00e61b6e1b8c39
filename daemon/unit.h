/* SPDX-License-Identifier: Apache-2.0 */
/*
 * unit: names of systemd units, and the unit that the cgroup of a process says it belongs to. Text only: must not open files or know of
 * processes (peer.c does).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/** Longest name of a unit, without the NUL (systemd.unit(5): 255). */
enum { UNIT_NAME_MAX = 255 };

/**
 * unit_name_check() - is @name the full name of a unit that a process can belong to
 *
 * That is a name with the suffix of its type, one of .service, .scope, .socket, .mount and .swap; of a template, an instance. The
 * characters are those of systemd.unit(5): letters, digits, and ":-_.\@".
 *
 * Return: NULL when it is one; else what is wrong, a phrase for a person that says what to give.
 */
const char *unit_name_check(const char *name);

/**
 * unit_from_cgroup() - the system unit that a process belongs to, out of its /proc/PID/cgroup
 * @ret_unit: its name; untouched when there is none
 * @text:     @n bytes, all of the file; need not end with a NUL
 *
 * Only the line of the unified hierarchy counts ("0::/PATH", cgroups(7)). The unit is the first component of the path that is no slice:
 * what lies below was made by the unit itself, by a user's service manager or by a container, which could call it what they like. Its
 * name is taken as systemd escapes it (one leading "_" is no part of the name).
 *
 * Return: whether there is one. Not for a process outside the cgroup namespace of the reader ("/.."), in a cgroup that is deleted, in
 *         the root or in a slice itself; not for a text that is no such file, or is cut off.
 */
bool unit_from_cgroup(char ret_unit[UNIT_NAME_MAX + 1], const char *text, size_t n);
