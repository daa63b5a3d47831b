/*
 * fork.c - what a forked child lets go of: every loop of its parent and every server on one.
 *
 * pyasgi.forked calls forsake() in the child, before any code of the application's runs there. The
 * core closes its descriptors (core/fork.c); here the pointers to it are taken away, so that
 * everything the child may still hold of the parent's server is in a state that it can be in
 * anyway: a closed loop, a closed server, requests that have ended. What hangs on loops and servers
 * stays alive for ever: to free it would end coroutines of the application's in the child, with
 * their finally blocks.
 *
 * The child may be deep in a callback of the loop, when a view forked. What lies below it on the
 * stack belongs to the parent: the other callbacks of this turn, the shutdown in Server.run(). So a
 * child that comes back to the loop must end there. Its exit status is what its exception says, as
 * in multiprocessing; pyasgi.forked knows how. On a loop without a server, which a program runs by
 * itself, it is the program that hears of it, by an exception.
 */
#include "bridge/loop/loop.h"

#include <unistd.h>

/* ---- lists ---- */

void cdpy_fork_add_loop(cdpy_loop *loop)
{
    cdpy_state *state = loop->state;
    loop->next = state->loops;
    if (loop->next != NULL)
        loop->next->prev = loop;
    state->loops = loop;
}

/* A loop whose making failed is on no list. */
void cdpy_fork_remove_loop(cdpy_loop *loop)
{
    cdpy_state *state = loop->state;
    if (loop->prev != NULL)
        loop->prev->next = loop->next;
    else if (state->loops == loop)
        state->loops = loop->next;
    if (loop->next != NULL)
        loop->next->prev = loop->prev;
    loop->prev = loop->next = NULL;
}

void cdpy_fork_add_guest(cdpy_loop *loop, cdpy_guest *guest, void (*forsake)(cdpy_guest *))
{
    guest->forsake = forsake;
    guest->next = loop->guests;
    if (guest->next != NULL)
        guest->next->prev = guest;
    loop->guests = guest;
}

void cdpy_fork_remove_guest(cdpy_loop *loop, cdpy_guest *guest)
{
    *(guest->prev != NULL ? &guest->prev->next : &loop->guests) = guest->next;
    if (guest->next != NULL)
        guest->next->prev = guest->prev;
    guest->prev = guest->next = NULL;
}

/* ---- letting go ---- */

static void forsake_loop(cdpy_loop *loop)
{
    Py_INCREF((PyObject *)loop); /* for ever */
    for (cdpy_guest *guest = loop->guests; guest != NULL; guest = guest->next)
        guest->forsake(guest);
    loop->served = loop->guests != NULL;
    loop->servers = 0;
    if (loop->core != NULL)
        cd_loop_forsake(loop->core);
    loop->forsaken = loop->core;
    loop->core = NULL;
    loop->inherited = loop->closed = true;
    loop->dispatching = loop->sleeping = loop->armed = false;
    loop->thread = 0;
    cdpy_ready_forsake(loop->ready);
}

PyObject *cdpy_forsake(PyObject *module, PyObject *end)
{
    cdpy_state *state = PyModule_GetState(module);
    PyObject *found = PyList_New(0);
    Py_XSETREF(state->fork_end, Py_NewRef(end));
    for (cdpy_loop *loop = state->loops; loop != NULL; loop = loop->next) {
        if (loop->core == NULL)
            continue;
        forsake_loop(loop);
        if (found != NULL && PyList_Append(found, (PyObject *)loop) < 0)
            Py_CLEAR(found);
    }
#ifdef CD_DEBUG
    cdpy_live_counts = (cdpy_live){0}; /* from here on the child counts its own */
    cd_live_counts = (cd_live){0};
#endif
    return found;
}

/* ---- the end of a child ---- */

/* Returns the exception that is set, or the one that was kept, or None; a new reference. */
static PyObject *take_error(cdpy_loop *loop)
{
    PyObject *error = cdpy_error_take();
    if (error == NULL)
        error = Py_XNewRef(loop->fatal);
    return error == NULL ? Py_NewRef(Py_None) : error;
}

int cdpy_fork_end(cdpy_loop *loop)
{
    if (loop->served) {
        PyObject *error = take_error(loop);
        PyObject *result = PyObject_CallOneArg(loop->state->fork_end, error);
        if (result == NULL)
            PyErr_Print();
        _exit(1); /* it should not have returned */
    }
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_RuntimeError,
                        "a forked child cannot go on with the event loop of its parent");
    return -1;
}
