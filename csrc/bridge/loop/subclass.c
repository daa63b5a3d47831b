/*
 * subclass.c - classes of asyncio with some of their attributes in fixed places, for C to read.
 *
 * A class made here is derived from one that asyncio has written in Python, and names in __slots__
 * the attributes that our methods look at in every read and write. asyncio's own methods, which do
 * everything else, see no difference: a slot is an attribute. Ours find it at an offset, where a
 * look-up by name costs as much as the system call it prepares.
 *
 * The methods are descriptors like those of a type written in C, so calling one makes no bound
 * object. The class belongs to the module (ht_module, as PyType_FromModuleAndSpec() would have it),
 * which is how a method finds the module's state, also for classes that are derived further.
 *
 * A slot that nothing has been put into yet reads as NULL.
 */
#include "bridge/loop/loop.h"

static PyObject *tuple_of_names(const char *const *names, size_t count)
{
    PyObject *tuple = PyTuple_New((Py_ssize_t)count);
    for (size_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *name = PyUnicode_InternFromString(names[i]);
        PyTuple_SET_ITEM(tuple, (Py_ssize_t)i, name);
        if (name == NULL)
            Py_CLEAR(tuple);
    }
    return tuple;
}

/* Makes class name(base) with __slots__ = names. */
static PyObject *make_class(PyObject *base, const char *name, const char *const *names,
                            size_t count)
{
    PyObject *slots = tuple_of_names(names, count);
    if (slots == NULL)
        return NULL;
    return PyObject_CallFunction((PyObject *)Py_TYPE(base), "s(O){sNss}", name, base, "__slots__",
                                 slots, "__module__", "pyasgi._core");
}

static int find_offsets(PyObject *type, const char *const *names, Py_ssize_t *offsets, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        PyObject *slot = PyObject_GetAttrString(type, names[i]);
        if (slot == NULL)
            return -1;
        bool found = Py_IS_TYPE(slot, &PyMemberDescr_Type);
        if (found)
            offsets[i] = ((PyMemberDescrObject *)slot)->d_member->offset;
        Py_DECREF(slot);
        if (!found) {
            PyErr_Format(PyExc_ImportError, "%R has no slot %s", type, names[i]);
            return -1;
        }
    }
    return 0;
}

static int add_methods(PyObject *type, PyMethodDef *methods)
{
    for (PyMethodDef *method = methods; method->ml_name != NULL; method++) {
        PyObject *descriptor = PyDescr_NewMethod((PyTypeObject *)type, method);
        int result =
            descriptor == NULL ? -1 : PyObject_SetAttrString(type, method->ml_name, descriptor);
        Py_XDECREF(descriptor);
        if (result < 0)
            return -1;
    }
    return 0;
}

PyObject *cdpy_subclass_new(PyObject *module, PyObject *base, const char *name,
                            const char *const *names, Py_ssize_t *offsets, size_t count,
                            PyMethodDef *methods)
{
    PyObject *type = make_class(base, name, names, count);
    if (type == NULL)
        return NULL;
    Py_XSETREF(((PyHeapTypeObject *)type)->ht_module, Py_NewRef(module)); /* type_dealloc */
    if (find_offsets(type, names, offsets, count) < 0 || add_methods(type, methods) < 0)
        Py_CLEAR(type);
    return type;
}

cdpy_state *cdpy_subclass_state(PyObject *self)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &cdpy_module);
    return module == NULL ? NULL : PyModule_GetState(module);
}
