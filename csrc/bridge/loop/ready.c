/*
 * ready.c - ReadyQueue, the callbacks that the loop runs next: asyncio's loop._ready.
 *
 * A ring of handles that C pushes and takes without a call, and that has those methods of
 * collections.deque that asyncio's own Python code and nest_asyncio use on loop._ready. So debug
 * mode, signal handlers and whatever else runs such code share one queue with the C path, and
 * switching debug mode on or off needs no hand-over.
 *
 * The GIL is its lock: call_soon_threadsafe() pushes from other threads. No method calls Python
 * code while the ring is in between two states; references are let go last.
 *
 * What is a handle and how it is run is handle.c's.
 */
#include "bridge/loop/loop.h"

#include <stddef.h>

struct cdpy_ready {
    PyObject_HEAD
    PyObject **items; /* a ring; strong */
    size_t room;      /* a power of two */
    size_t head, count;
};

enum { FIRST_ROOM = 64 };

static PyObject **place(const cdpy_ready *q, size_t index)
{
    return &q->items[(q->head + index) & (q->room - 1)];
}

static int grow(cdpy_ready *q)
{
    size_t room = q->room * 2;
    PyObject **items = PyMem_Malloc(room * sizeof *items);
    if (items == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = 0; i < q->count; i++)
        items[i] = *place(q, i);
    PyMem_Free(q->items);
    q->items = items;
    q->room = room;
    q->head = 0;
    return 0;
}

int cdpy_ready_push(cdpy_ready *q, PyObject *handle)
{
    if (q->count == q->room && grow(q) < 0)
        return -1;
    *place(q, q->count++) = Py_NewRef(handle); /* cdpy_ready_take's caller, or cdpy_ready_drop */
    return 0;
}

PyObject *cdpy_ready_take(cdpy_ready *q)
{
    if (q->count == 0)
        return NULL;
    PyObject *handle = *place(q, 0);
    q->head++;
    q->count--;
    return handle;
}

size_t cdpy_ready_count(const cdpy_ready *q)
{
    return q->count;
}

void cdpy_ready_drop(cdpy_ready *q)
{
    PyObject *handle;
    while (q != NULL && (handle = cdpy_ready_take(q)) != NULL)
        Py_DECREF(handle);
}

void cdpy_ready_forsake(cdpy_ready *q)
{
    q->head += q->count;
    q->count = 0;
}

/* ---- as a deque ---- */

static PyObject *ready_append(PyObject *self, PyObject *handle)
{
    if (cdpy_ready_push((cdpy_ready *)self, handle) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int push_left(cdpy_ready *q, PyObject *handle)
{
    if (q->count == q->room && grow(q) < 0)
        return -1;
    q->head--;
    q->count++;
    *place(q, 0) = Py_NewRef(handle); /* cdpy_ready_take's caller, or cdpy_ready_drop */
    return 0;
}

static PyObject *ready_appendleft(PyObject *self, PyObject *handle)
{
    if (push_left((cdpy_ready *)self, handle) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *ready_popleft(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *handle = cdpy_ready_take((cdpy_ready *)self);
    if (handle == NULL)
        PyErr_SetString(PyExc_IndexError, "pop from an empty ReadyQueue");
    return handle;
}

static PyObject *ready_clear_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    cdpy_ready_drop((cdpy_ready *)self);
    Py_RETURN_NONE;
}

static int extend(cdpy_ready *q, PyObject *handles, int (*push)(cdpy_ready *, PyObject *))
{
    PyObject *list = PySequence_List(handles);
    int result = list == NULL ? -1 : 0;
    for (Py_ssize_t i = 0; result == 0 && i < PyList_GET_SIZE(list); i++)
        result = push(q, PyList_GET_ITEM(list, i));
    Py_XDECREF(list);
    return result;
}

static PyObject *ready_extend(PyObject *self, PyObject *handles)
{
    if (extend((cdpy_ready *)self, handles, cdpy_ready_push) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *ready_extendleft(PyObject *self, PyObject *handles)
{
    if (extend((cdpy_ready *)self, handles, push_left) < 0)
        return NULL;
    Py_RETURN_NONE;
}

int cdpy_ready_assign(cdpy_ready *q, PyObject *handles)
{
    if ((PyObject *)q == handles)
        return 0;
    cdpy_ready_drop(q);
    return extend(q, handles, cdpy_ready_push);
}

static Py_ssize_t ready_length(PyObject *self)
{
    return (Py_ssize_t)((cdpy_ready *)self)->count;
}

static PyObject *ready_item(PyObject *self, Py_ssize_t index)
{
    const cdpy_ready *q = (cdpy_ready *)self;
    if (index >= 0 && (size_t)index < q->count)
        return Py_NewRef(*place(q, (size_t)index));
    PyErr_SetString(PyExc_IndexError, "ReadyQueue index out of range");
    return NULL;
}

/* ---- life ---- */

cdpy_ready *cdpy_ready_new(cdpy_state *state)
{
    PyTypeObject *type = (PyTypeObject *)state->ready_type;
    cdpy_ready *q = (cdpy_ready *)type->tp_alloc(type, 0);
    if (q == NULL)
        return NULL;
    q->items = PyMem_Malloc(FIRST_ROOM * sizeof *q->items);
    if (q->items == NULL) {
        Py_DECREF(q);
        PyErr_NoMemory();
        return NULL;
    }
    q->room = FIRST_ROOM;
    return q;
}

static int ready_traverse(PyObject *self, visitproc visit, void *arg)
{
    const cdpy_ready *q = (cdpy_ready *)self;
    Py_VISIT(Py_TYPE(self));
    for (size_t i = 0; i < q->count; i++)
        Py_VISIT(*place(q, i));
    return 0;
}

static int ready_clear(PyObject *self)
{
    cdpy_ready_drop((cdpy_ready *)self);
    return 0;
}

static void ready_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    cdpy_ready_drop((cdpy_ready *)self);
    PyMem_Free(((cdpy_ready *)self)->items);
    type->tp_free(self);
    Py_DECREF(type);
}

static PyMethodDef ready_methods[] = {
    {"append", ready_append, METH_O, NULL},
    {"appendleft", ready_appendleft, METH_O, NULL},
    {"popleft", ready_popleft, METH_NOARGS, NULL},
    {"clear", ready_clear_method, METH_NOARGS, NULL},
    {"extend", ready_extend, METH_O, NULL},
    {"extendleft", ready_extendleft, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot ready_slots[] = {
    {Py_tp_doc, "Handles that the loop runs next, oldest first."},
    {Py_tp_methods, ready_methods},
    {Py_sq_length, ready_length},
    {Py_sq_item, ready_item},
    {Py_tp_traverse, ready_traverse},
    {Py_tp_clear, ready_clear},
    {Py_tp_dealloc, ready_dealloc},
    {0, NULL},
};

static PyType_Spec ready_spec = {
    .name = "pyasgi._core.ReadyQueue",
    .basicsize = sizeof(cdpy_ready),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = ready_slots,
};

int cdpy_ready_init(PyObject *module, cdpy_state *state)
{
    return cdpy_add_type(module, &ready_spec, &state->ready_type, NULL);
}
