/* SPDX-License-Identifier: Apache-2.0 */
/*
 * aws-xml: the texts of an XML answer of AWS's query protocol, found where they lie, since some are secrets. Well-formed elements with attributes
 * and the five references of XML; no document type, no comment, no CDATA. Pure. Fuzzed.
 */
#pragma once

#include "common/bytes.h"

/** A text that is wanted. */
struct aws_xml_text {
        const char *name;  /* of its element */
        struct bytes text; /* as it stands, references and all; data is NULL when the element is not there */
};

/**
 * aws_xml_find() - the texts of those children of the one element @parent that have no children themselves
 * Return: 0; -EINVAL when @xml is not well-formed, or has @parent or one of @texts twice. Elements that are not there are no error.
 */
int aws_xml_find(struct bytes xml, const char *parent, struct aws_xml_text *texts, size_t n);

/** aws_xml_unescape() - resolve the references in @text
 *  @ret: room for text.n bytes
 *  Return: 0; -EINVAL for a reference that is none of XML's five. */
int aws_xml_unescape(uint8_t *ret, size_t *ret_n, struct bytes text);
