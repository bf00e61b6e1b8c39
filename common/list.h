/* SPDX-License-Identifier: Apache-2.0 */
/*
 * list: an intrusive doubly linked ring. A head and an unlinked node both point to themselves. Its links are checked wherever they are followed to be
 * changed: a node that was freed while it was linked ends the process, and is not written through.
 */
#pragma once

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>

struct list {
        struct list *next;
        struct list *previous;
};

#define LIST_INIT(head) ((struct list){ &(head), &(head) })
/** list_entry() - the struct @type that embeds @node as its member @member. */
#define list_entry(node, type, member) ((type *)(void *)((char *)(node) - offsetof(type, member)))
/** list_for_each_safe() - the loop body may unlink @node. */
#define list_for_each_safe(node, following, head) \
        for ((node) = (head)->next, (following) = (node)->next; (node) != (head); (node) = (following), (following) = (node)->next)

static inline void list_init(struct list *l)
{
        l->next = l->previous = l;
}

static inline bool list_is_empty(const struct list *l)
{
        assert(l->next->previous == l && l->previous->next == l);
        return l->next == l;
}

/** list_unlink() - take @node out of its ring; harmless on an unlinked node. */
static inline void list_unlink(struct list *node)
{
        assert(node->next->previous == node && node->previous->next == node);
        node->next->previous = node->previous;
        node->previous->next = node->next;
        list_init(node);
}

/** list_append() - put an unlinked @node last. */
static inline void list_append(struct list *head, struct list *node)
{
        assert(head->previous->next == head);
        node->previous = head->previous;
        node->next = head;
        head->previous->next = node;
        head->previous = node;
}

/** list_prepend() - put an unlinked @node first. */
static inline void list_prepend(struct list *head, struct list *node)
{
        list_append(head->next, node);
}
