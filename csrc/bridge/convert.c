/*
 * convert.c - small functions on Python values that both halves of the bridge need.
 *
 * An exception can be taken off and set again, whatever the version of Python; the values of a dict
 * are looked up with a reference of the caller's own, because another thread may change the dict
 * meanwhile, and stored so that a failed expression of the caller's is a failure here.
 *
 * What turns events into the core's terms is asgi/event.c.
 */
#include "bridge/state.h"

/* ---- exceptions ---- */

#if PY_VERSION_HEX >= 0x030C0000
PyObject *cdpy_error_take(void)
{
    return PyErr_GetRaisedException();
}

void cdpy_error_put(PyObject *error)
{
    if (error)
        PyErr_SetRaisedException(error);
}
#else
PyObject *cdpy_error_take(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (type == NULL)
        return NULL;
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback)
        PyException_SetTraceback(value, traceback);
    Py_DECREF(type);
    Py_XDECREF(traceback);
    return value;
}

void cdpy_error_put(PyObject *error)
{
    if (error)
        PyErr_Restore(Py_NewRef((PyObject *)Py_TYPE(error)), error,
                      PyException_GetTraceback(error));
}
#endif

/* ---- values of a dict ---- */

int cdpy_get(PyObject *dict, PyObject *key, PyObject **value)
{
#if PY_VERSION_HEX >= 0x030D0000
    return PyDict_GetItemRef(dict, key, value);
#else
    *value = Py_XNewRef(PyDict_GetItemWithError(dict, key));
    if (*value)
        return 1;
    return PyErr_Occurred() ? -1 : 0;
#endif
}

int cdpy_truth(PyObject *dict, PyObject *key)
{
    PyObject *given;
    int truth = cdpy_get(dict, key, &given);
    if (truth == 1) {
        truth = PyObject_IsTrue(given);
        Py_DECREF(given);
    }
    return truth;
}

int cdpy_put(PyObject *dict, PyObject *key, PyObject *value)
{
    int result = value ? PyDict_SetItem(dict, key, value) : -1;
    Py_XDECREF(value);
    return result;
}
