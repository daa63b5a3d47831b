/*
 * registry.c - asyncio's registry of tasks without a Python frame for each task.
 *
 * Up to Python 3.13 every Task puts itself into a weakref.WeakSet, which is where
 * asyncio.all_tasks() finds it. Its add() and the callback that takes a dead task off are Python
 * functions: 3,400 instructions for each task on 3.11, a tenth of what a small request costs. (From
 * 3.12 on a request that ends within its first step stays out of the set; the application's own
 * tasks do not. 3.14 has a list in C.)
 *
 * The set itself stays what it is and holds the same weak references. Only its add() is ours: an
 * attribute of that one object, which does to the set's `data` what the method does, and gives the
 * references a callback that does what its _remove does. Whoever iterates, counts or copies sees no
 * difference. A set that is not what is expected here is left alone.
 */
#include "bridge/loop/loop.h"

#if PY_VERSION_HEX < 0x030E0000

#include <stddef.h>

typedef struct {
    PyObject_HEAD
    PyObject *set;       /* the WeakSet; strong: it is as old as asyncio */
    PyObject *data;      /* its set of references */
    PyObject *removals;  /* its list of references that died during an iteration */
    PyObject *iterating; /* its set of running iterations */
    PyObject *remove;    /* our callback, bound */
} registry;

static int commit_removals(registry *r)
{
    if (PyList_GET_SIZE(r->removals) == 0)
        return 0;
    PyObject *done = PyObject_CallMethod(r->set, "_commit_removals", NULL);
    Py_XDECREF(done);
    return done ? 0 : -1;
}

static PyObject *registry_add(PyObject *op, PyObject *task)
{
    registry *r = (registry *)op;
    PyObject *reference = commit_removals(r) < 0 ? NULL : PyWeakref_NewRef(task, r->remove);
    int result = reference ? PySet_Add(r->data, reference) : -1;
    Py_XDECREF(reference);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static PyObject *registry_remove(PyObject *op, PyObject *reference)
{
    registry *r = (registry *)op;
    bool busy = PySet_GET_SIZE(r->iterating) > 0;
    int result = busy ? PyList_Append(r->removals, reference) : PySet_Discard(r->data, reference);
    if (result < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int registry_traverse(PyObject *op, visitproc visit, void *arg)
{
    registry *r = (registry *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(r->set);
    Py_VISIT(r->data);
    Py_VISIT(r->removals);
    Py_VISIT(r->iterating);
    Py_VISIT(r->remove);
    return 0;
}

static int registry_clear(PyObject *op)
{
    registry *r = (registry *)op;
    Py_CLEAR(r->remove);
    return 0; /* the other members are asyncio's, and its references may still call us */
}

static void registry_dealloc(PyObject *op)
{
    registry *r = (registry *)op;
    PyTypeObject *type = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)registry_clear(op);
    Py_XDECREF(r->set);
    Py_XDECREF(r->data);
    Py_XDECREF(r->removals);
    Py_XDECREF(r->iterating);
    type->tp_free(op);
    Py_DECREF(type);
}

static PyMethodDef registry_methods[] = {
    {"add", registry_add, METH_O, NULL},
    {"remove", registry_remove, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot registry_slots[] = {
    {Py_tp_doc, "add() of asyncio's WeakSet of tasks."},
    {Py_tp_methods, registry_methods},
    {Py_tp_traverse, registry_traverse},
    {Py_tp_clear, registry_clear},
    {Py_tp_dealloc, registry_dealloc},
    {0, NULL},
};

static PyType_Spec registry_spec = {
    .name = "pyasgi._core.TaskRegistry",
    .basicsize = sizeof(registry),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = registry_slots,
};

/* Takes the parts of the WeakSet. False: it is not the standard library's class, or an exception is
 * set. */
static bool adopt(registry *r, PyObject *set)
{
    r->set = Py_NewRef(set);
    r->data = PyObject_GetAttrString(set, "data");
    r->removals = r->data ? PyObject_GetAttrString(set, "_pending_removals") : NULL;
    r->iterating = r->removals ? PyObject_GetAttrString(set, "_iterating") : NULL;
    return r->iterating && PySet_CheckExact(r->data) && PyList_CheckExact(r->removals) &&
           PySet_CheckExact(r->iterating);
}

/* Sets our add() on the instance, where it hides the method. */
static int install(cdpy_state *state, PyObject *set)
{
    PyTypeObject *type = (PyTypeObject *)state->registry_type;
    PyObject *op = type->tp_alloc(type, 0), *add = NULL;
    registry *r = (registry *)op;
    int result = -1;
    if (op == NULL)
        return -1;
    if (adopt(r, set)) {
        r->remove = PyObject_GetAttrString(op, "remove");
        add = r->remove ? PyObject_GetAttrString(op, "add") : NULL;
        result = add ? PyObject_SetAttrString(set, "add", add) : -1;
    } else {
        result = PyErr_Occurred() ? -1 : 0;
    }
    if (result == 0 && add)
        state->registry = Py_NewRef(op); /* cdpy_registry_leave */
    Py_XDECREF(add);
    Py_DECREF(op);
    return result;
}

/* Is it still as asyncio made it, so that nobody else has set an add() there? */
static bool is_untouched(const cdpy_state *state, PyObject *set)
{
    PyObject *names = (PyObject *)Py_TYPE(set) == state->weak_set_type
                          ? PyObject_GetAttrString(set, "__dict__")
                          : NULL;
    bool untouched = names && PyDict_GetItemString(names, "add") == NULL;
    Py_XDECREF(names);
    return untouched;
}

int cdpy_registry_enter(cdpy_state *state)
{
    const char *name = PY_VERSION_HEX < 0x030C0000 ? "_all_tasks" : "_scheduled_tasks";
    if (state->registry_users > 0) {
        state->registry_users++;
        return 0;
    }
    PyObject *tasks = PyImport_ImportModule("asyncio.tasks");
    PyObject *set = tasks ? PyObject_GetAttrString(tasks, name) : NULL;
    int result = set ? 0 : -1;
    if (set && is_untouched(state, set))
        result = install(state, set);
    Py_XDECREF(set);
    Py_XDECREF(tasks);
    state->registry_users += result == 0;
    return result;
}

/* Tasks that still live keep their references, and these keep us, until they end. */
void cdpy_registry_leave(cdpy_state *state)
{
    if (--state->registry_users > 0 || state->registry == NULL)
        return;
    PyObject *op = state->registry, *pending = cdpy_error_take();
    state->registry = NULL;
    if (PyObject_DelAttrString(((registry *)op)->set, "add") < 0)
        PyErr_Clear(); /* somebody took it away */
    Py_DECREF(op);
    cdpy_error_put(pending);
}

int cdpy_registry_init(PyObject *module, cdpy_state *state)
{
    PyObject *weakref = PyImport_ImportModule("weakref");
    state->weak_set_type = weakref ? PyObject_GetAttrString(weakref, "WeakSet") : NULL;
    Py_XDECREF(weakref);
    if (state->weak_set_type == NULL)
        return -1;
    return cdpy_add_type(module, &registry_spec, &state->registry_type, NULL);
}

#else

int cdpy_registry_enter(cdpy_state *Py_UNUSED(state))
{
    return 0;
}

void cdpy_registry_leave(cdpy_state *Py_UNUSED(state))
{
}

int cdpy_registry_init(PyObject *Py_UNUSED(module), cdpy_state *Py_UNUSED(state))
{
    return 0;
}

#endif
