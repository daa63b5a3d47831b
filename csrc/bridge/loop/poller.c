/*
 * poller.c - Poller: the selector of EventLoop, with the interface of selectors.EpollSelector, over
 * the core's loop.
 *
 * select() is one turn of the core: it polls, dispatches the core's callbacks (which run
 * applications), and then tells asyncio which of its own descriptors are ready. Nothing here knows
 * of servers or streams.
 *
 * Errors are EpollSelector's, with its texts, and so is the rest of its behaviour as far as
 * programs can see it. Another thread may register while the loop sleeps: the GIL, which is free
 * only then, keeps the two apart.
 */
#include "bridge/loop/loop.h"

#include <errno.h>
#include <limits.h>
#include <math.h>

/* What is registered for one descriptor. */
typedef struct {
    PyObject *fileobj; /* NULL: not registered */
    PyObject *data;
    PyObject *key;   /* its SelectorKey; NULL: nobody has asked for it yet */
    cd_watch *watch; /* its data is the descriptor */
    int events;      /* events of the key: CD_READ | CD_WRITE */
} slot;

typedef struct {
    PyObject_HEAD
    cdpy_loop *loop;         /* strong; owns the core's loop, NULL once cleared */
    slot *slots;             /* indexed by descriptor */
    int size;                /* how many slots there are */
    int count;               /* how many descriptors are registered */
    PyThreadState *thread;   /* the thread state of the thread that sleeps without the GIL */
    bool attached;           /* it serves an EventLoop, so it may return early with nothing */
    unsigned long selecting; /* the thread that is inside select(), 0: none */
    bool woken;              /* wake() was called since the last select() returned */
} poller;

typedef struct {
    PyObject_HEAD
    poller *poller; /* strong */
} poller_map;

static bool is_closed(const poller *p)
{
    return p->loop == NULL || p->loop->core == NULL;
}

static slot *slot_of(const poller *p, int fd)
{
    return fd < p->size && p->slots[fd].fileobj != NULL ? &p->slots[fd] : NULL;
}

/* ---- arguments ---- */

/* fileobj as an int object, with the errors of selectors._fileobj_to_fd. */
static PyObject *fileno_of(PyObject *fileobj)
{
    if (PyLong_Check(fileobj))
        return Py_NewRef(fileobj);
    PyObject *result = PyObject_CallMethod(fileobj, "fileno", NULL);
    PyObject *number = result == NULL ? NULL : PyNumber_Long(result);
    Py_XDECREF(result);
    if (number == NULL &&
        (PyErr_ExceptionMatches(PyExc_AttributeError) || PyErr_ExceptionMatches(PyExc_TypeError) ||
         PyErr_ExceptionMatches(PyExc_ValueError))) {
        PyErr_Clear();
        PyErr_Format(PyExc_ValueError, "Invalid file object: %R", fileobj);
    }
    return number;
}

/* Returns the descriptor, or -1 with an exception. A number too large for the kernel becomes
 * INT_MAX, which is never open. */
static int fd_of(PyObject *fileobj)
{
    PyObject *number = fileno_of(fileobj);
    if (number == NULL)
        return -1;
    int overflow;
    long fd = PyLong_AsLongAndOverflow(number, &overflow);
    if (overflow > 0 || fd > INT_MAX)
        fd = INT_MAX;
    else if (overflow < 0 || (fd < 0 && !PyErr_Occurred()))
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %S", number);
    Py_DECREF(number);
    return PyErr_Occurred() ? -1 : (int)fd;
}

/* Like fd_of, but a closed object is found by its identity. */
static int lookup(const poller *p, PyObject *fileobj)
{
    int fd = fd_of(fileobj);
    if (fd >= 0 || !PyErr_ExceptionMatches(PyExc_ValueError))
        return fd;
    for (int i = 0; i < p->size; i++) {
        if (p->slots[i].fileobj == fileobj) {
            PyErr_Clear();
            return i;
        }
    }
    return -1;
}

/* Returns the slot of a registered object; NULL with KeyError or what lookup raises. */
static slot *find(const poller *p, PyObject *fileobj)
{
    int fd = lookup(p, fileobj);
    if (fd < 0)
        return NULL;
    slot *s = slot_of(p, fd);
    if (s != NULL)
        return s;
    PyErr_Format(PyExc_KeyError, "%R is not registered", fileobj);
    return NULL;
}

/* Returns the event bits; -1 with an exception when it is no integer. */
static long bits_of(PyObject *events)
{
    PyObject *number = PyNumber_Index(events);
    if (number == NULL)
        return -1;
    int overflow;
    long bits = PyLong_AsLongAndOverflow(number, &overflow);
    Py_DECREF(number);
    return overflow != 0 || bits < 0 ? LONG_MAX : bits;
}

/* ---- slots ---- */

static int grow(poller *p, int fd)
{
    if (fd < p->size)
        return 0;
    int size = fd < INT_MAX / 2 ? fd * 2 + 16 : INT_MAX;
    slot *slots = PyMem_Realloc(p->slots, (size_t)size * sizeof *slots);
    if (slots == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = p->size; i < size; i++)
        slots[i] = (slot){0};
    p->slots = slots;
    p->size = size;
    return 0;
}

/* Returns the slot's SelectorKey, a new reference; NULL with an exception. */
static PyObject *key_of(const poller *p, int fd)
{
    const slot *s = &p->slots[fd];
    if (s->key != NULL)
        return Py_NewRef(s->key);
    PyObject *fileobj = Py_NewRef(s->fileobj), *data = Py_NewRef(s->data), *key = NULL;
    PyObject *number = PyLong_FromLong(fd), *events = PyLong_FromLong(s->events);
    if (number != NULL && events != NULL) {
        PyObject *args[] = {fileobj, number, events, data};
        key = PyObject_Vectorcall(p->loop->state->loop_selector_key, args, 4, NULL);
    }
    Py_XDECREF(events);
    Py_XDECREF(number);
    /* Making it may have run Python code, which may have changed the slot. */
    slot *now = slot_of(p, fd);
    if (key != NULL && now != NULL && now->fileobj == fileobj && now->data == data)
        Py_XSETREF(now->key, Py_NewRef(key));
    Py_DECREF(fileobj);
    Py_DECREF(data);
    return key;
}

/* Drops the references of a slot that is not used any more: this may run Python code. */
static void release(slot old)
{
    Py_XDECREF(old.key);
    Py_DECREF(old.data);
    Py_DECREF(old.fileobj);
}

static void forget(poller *p, slot *s)
{
    slot old = *s;
    cd_watch_free(s->watch);
    *s = (slot){0};
    p->count--;
    release(old);
}

static void forget_all(poller *p)
{
    slot *slots = p->slots;
    int size = p->size;
    p->slots = NULL;
    p->size = p->count = 0;
    for (int i = 0; i < size; i++) {
        if (slots[i].fileobj == NULL)
            continue;
        cd_watch_free(slots[i].watch);
        release(slots[i]);
    }
    PyMem_Free(slots);
}

/* ---- register, unregister, modify ---- */

static PyObject *raise_closed(void)
{
    PyErr_SetString(PyExc_ValueError, "I/O operation on closed Poller object");
    return NULL;
}

/* Returns the event bits of a register(); -1 with an exception. */
static int check_events(PyObject *events)
{
    long bits = bits_of(events);
    if (bits == -1 && PyErr_Occurred())
        return -1;
    if (bits > 0 && (bits & ~(long)(CD_READ | CD_WRITE)) == 0)
        return (int)bits;
    PyErr_Format(PyExc_ValueError, "Invalid events: %R", events);
    return -1;
}

static int raise_errno(void)
{
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

/* Watches a descriptor. Returns 0 or -1. */
static int insert(poller *p, int fd, int bits, PyObject *fileobj, PyObject *data)
{
    if (is_closed(p)) {
        (void)raise_closed();
        return -1;
    }
    if (slot_of(p, fd) != NULL) {
        PyErr_Format(PyExc_KeyError, "%R (FD %d) is already registered", fileobj, fd);
        return -1;
    }
    cd_watch *watch = cd_watch_new(p->loop->core, fd, bits, (void *)(intptr_t)fd);
    if (watch == NULL)
        return raise_errno();
    if (grow(p, fd) < 0) {
        cd_watch_free(watch);
        return -1;
    }
    p->slots[fd] = (slot){Py_NewRef(fileobj), Py_NewRef(data), NULL, watch, bits}; /* release() */
    p->count++;
    return 0;
}

PyDoc_STRVAR(
    register_doc,
    "register($self, /, fileobj, events, data=None)\n--\n\n"
    "Watch a file descriptor (int, or object with fileno()) for selectors.EVENT_READ | "
    "EVENT_WRITE.\n\n"
    "Return its SelectorKey. ValueError: bad events or file object; KeyError: registered already;\n"
    "OSError: closed (EBADF) or not pollable, such as a regular file (EPERM).");

static PyObject *poller_register(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fileobj", "events", "data", NULL};
    poller *p = (poller *)self;
    PyObject *fileobj, *events, *data = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:register", names, &fileobj, &events,
                                     &data))
        return NULL;
    int bits = check_events(events);
    int fd = bits < 0 ? -1 : lookup(p, fileobj);
    if (fd < 0)
        return NULL;
    return insert(p, fd, bits, fileobj, data) < 0 ? NULL : key_of(p, fd);
}

PyDoc_STRVAR(
    unregister_doc,
    "unregister($self, fileobj, /)\n--\n\n"
    "Stop watching; works for descriptors that have been closed. Return the SelectorKey.\n\n"
    "KeyError: not registered.");

static PyObject *poller_unregister(PyObject *self, PyObject *fileobj)
{
    poller *p = (poller *)self;
    slot *s = find(p, fileobj);
    if (s == NULL)
        return NULL;
    int fd = (int)(s - p->slots);
    PyObject *key = key_of(p, fd);
    s = slot_of(p, fd); /* making the key may have run Python code */
    if (key != NULL && s != NULL)
        forget(p, s);
    return key;
}

/* Changes the events to watch for. Returns 0, or -1 and then the descriptor is not registered any
 * more. */
static int replace(poller *p, slot *s, int bits, PyObject *data)
{
    if (bits != s->events && cd_watch_set(s->watch, bits) < 0) {
        (void)raise_errno();
        PyObject *error = cdpy_error_take();
        forget(p, s);
        cdpy_error_put(error);
        return -1;
    }
    PyObject *old_key = s->key, *old_data = s->data;
    s->key = NULL;
    s->data = Py_NewRef(data); /* release() */
    s->events = bits;
    Py_XDECREF(old_key); /* last: they may run Python code */
    Py_DECREF(old_data);
    return 0;
}

PyDoc_STRVAR(
    modify_doc,
    "modify($self, /, fileobj, events, data=None)\n--\n\n"
    "Change the events or the data of a registered file object. Return its new SelectorKey.\n\n"
    "KeyError: not registered; OSError: closed, and not registered any more.");

static PyObject *poller_modify(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"fileobj", "events", "data", NULL};
    poller *p = (poller *)self;
    PyObject *fileobj, *events, *data = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O:modify", names, &fileobj, &events, &data))
        return NULL;
    long bits = bits_of(events);
    slot *s = bits == -1 && PyErr_Occurred() ? NULL : find(p, fileobj);
    if (s == NULL)
        return NULL;
    bits &= CD_READ | CD_WRITE;
    int fd = (int)(s - p->slots);
    if ((bits != s->events || s->data != data) && replace(p, s, (int)bits, data) < 0)
        return NULL;
    if (slot_of(p, fd) != NULL)
        return key_of(p, fd);
    return PyErr_Format(PyExc_KeyError, "%R is not registered", fileobj);
}

/* ---- for readers.c ---- */

int cdpy_poller_get(PyObject *selector, PyObject *fileobj, int *fd, int *events, PyObject **data)
{
    const poller *p = (poller *)selector;
    *fd = lookup(p, fileobj);
    if (*fd < 0)
        return -1;
    const slot *s = slot_of(p, *fd);
    *data = s == NULL ? NULL : Py_NewRef(s->data);
    *events = s == NULL ? 0 : s->events;
    return 0;
}

int cdpy_poller_put(PyObject *selector, PyObject *fileobj, int fd, int events, PyObject *data)
{
    poller *p = (poller *)selector;
    slot *s = slot_of(p, fd);
    if (s == NULL)
        return events == 0 ? 0 : insert(p, fd, events, fileobj, data);
    if (events != 0)
        return replace(p, s, events, data);
    forget(p, s);
    return 0;
}

/* ---- select ---- */

static void on_sleep(void *arg)
{
    poller *p = arg;
    p->loop->sleeping = true;
    p->thread = PyEval_SaveThread();
}

static void on_wake(void *arg)
{
    poller *p = arg;
    PyEval_RestoreThread(p->thread);
    p->loop->sleeping = false;
}

/* Returns the seconds to wait: 0: not at all; -1: without an end; -2: an exception is set. */
static double timeout_of(PyObject *object)
{
    if (object == Py_None)
        return -1;
    double seconds = PyFloat_AsDouble(object);
    if (seconds == -1 && PyErr_Occurred())
        return -2;
    if (isnan(seconds)) {
        PyErr_SetString(PyExc_ValueError, "timeout is not a number");
        return -2;
    }
    return seconds > 0 ? fmin(seconds, 1e9) : 0;
}

static int append_ready(PyObject *ready, const poller *p, int fd, int mask)
{
    PyObject *key = key_of(p, fd);
    PyObject *pair = key == NULL ? NULL : Py_BuildValue("(Ni)", key, mask);
    int result = pair == NULL ? -1 : PyList_Append(ready, pair);
    Py_XDECREF(pair);
    return result;
}

/* Finds the next descriptor that fired, and its events. False: no more. */
static bool next_fired(const poller *p, int *fd, int *mask)
{
    cd_watch *watch;
    int fired;
    while (!is_closed(p) && (watch = cd_loop_fired(p->loop->core, &fired)) != NULL) {
        *fd = (int)(intptr_t)cd_watch_data(watch);
        *mask = fired & p->slots[*fd].events;
        if (*mask != 0)
            return true;
    }
    return false;
}

/* Appends the descriptors that fired to the list. */
static int collect(poller *p, PyObject *ready)
{
    int fd, mask;
    while (next_fired(p, &fd, &mask))
        if (append_ready(ready, p, fd, mask) < 0)
            return -1;
    return 0;
}

/* Calls loop._process_events([(key, mask)]), for registrations made without asyncio. */
static int process_as_asyncio(const poller *p, int fd, int mask)
{
    PyObject *result = NULL, *list = PyList_New(0);
    if (list != NULL && append_ready(list, p, fd, mask) == 0)
        result =
            PyObject_CallMethodOneArg((PyObject *)p->loop, p->loop->state->s__process_events, list);
    Py_XDECREF(list);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Queues the handle; for one that was cancelled it calls `remove` for the descriptor. */
static int queue_handle(cdpy_loop *loop, PyObject *handle, PyObject *fileobj, PyObject *remove)
{
    if (handle == Py_None)
        return 0;
    int cancelled = cdpy_handle_cancelled(loop->state, handle);
    if (cancelled <= 0)
        return cancelled < 0 ? -1 : cdpy_ready_push(loop->ready, handle);
    PyObject *result = PyObject_CallMethodOneArg((PyObject *)loop, remove, fileobj);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* asyncio's registrations have the data (handle for reading or None, handle for writing or
 * None). */
static int queue_handles(poller *p, int fd, int mask)
{
    PyObject *data = p->slots[fd].data, *fileobj = p->slots[fd].fileobj;
    cdpy_state *state = p->loop->state;
    int result = 0;
    if (!PyTuple_CheckExact(data) || PyTuple_GET_SIZE(data) != 2)
        return process_as_asyncio(p, fd, mask);
    Py_INCREF(data); /* both references are dropped below; removing may drop the slot's */
    Py_INCREF(fileobj);
    if (mask & CD_READ)
        result = queue_handle(p->loop, PyTuple_GET_ITEM(data, 0), fileobj, state->s__remove_reader);
    if (result == 0 && mask & CD_WRITE)
        result = queue_handle(p->loop, PyTuple_GET_ITEM(data, 1), fileobj, state->s__remove_writer);
    Py_DECREF(data);
    Py_DECREF(fileobj);
    return result;
}

/* Queues the handles of the descriptors that fired. */
static int queue_fired(poller *p)
{
    int fd, mask;
    while (next_fired(p, &fd, &mask))
        if (queue_handles(p, fd, mask) < 0)
            return -1;
    return 0;
}

/* Forgets the descriptors that fired: they will fire again. */
static void drop_fired(poller *p)
{
    int fired;
    while (!is_closed(p) && cd_loop_fired(p->loop->core, &fired) != NULL)
        continue;
}

static void dispatch(cdpy_loop *loop)
{
    bool outer = loop->dispatching;
    loop->dispatching = true;
    cd_loop_dispatch(loop->core);
    loop->dispatching = outer;
}

static int raise_fatal(cdpy_loop *loop)
{
    PyObject *fatal = loop->fatal;
    if (fatal == NULL)
        return 0;
    loop->fatal = NULL;
    PyErr_SetObject((PyObject *)Py_TYPE(fatal), fatal);
    Py_DECREF(fatal);
    return -1;
}

/* Takes one turn of the core. What fired is put on the list, or when that is NULL on the loop's
 * queue. Returns 0 or -1. */
static int turn(poller *p, double timeout, PyObject *ready)
{
    cd_loop_poll(p->loop->core, timeout, on_sleep, on_wake, p);
    int result = PyErr_CheckSignals();
    if (p->loop->inherited) /* a signal's handler has forked */
        return cdpy_fork_end(p->loop);
    if (result == 0) {
        dispatch(p->loop);
        result = raise_fatal(p->loop);
    }
    if (result == 0)
        result = ready == NULL ? queue_fired(p) : collect(p, ready);
    if (result < 0)
        drop_fired(p);
    return result;
}

/*
 * Takes turns until there is something to return. An event loop accepts an empty list, and
 * applications that ran in the dispatch may have made work for it; but a selector without one must
 * not return early, which a signal would make it do (PEP 475).
 */
static int turns(poller *p, double timeout, PyObject *ready)
{
    double deadline = timeout > 0 ? cd_clock() + timeout : 0;
    for (;;) {
        if (turn(p, timeout, ready) < 0)
            return -1;
        bool done = p->attached || p->woken || timeout == 0 || PyList_GET_SIZE(ready) > 0;
        p->woken = false;
        if (done)
            return 0;
        if (timeout > 0)
            timeout = fmax(deadline - cd_clock(), 0);
    }
}

/*
 * Only one thread may be inside. The same thread may come again from a callback, because an
 * application may run the running loop (nest_asyncio): then it is in dispatch, because poll calls
 * nobody.
 */
static int begin(poller *p, unsigned long *outer)
{
    unsigned long thread = PyThread_get_thread_ident();
    *outer = p->selecting;
    if (p->selecting != 0 && p->selecting != thread) {
        PyErr_SetString(PyExc_RuntimeError, "select() is running already, in another thread");
        return -1;
    }
    p->selecting = thread;
    return 0;
}

bool cdpy_poller_serves(PyObject *selector, const cdpy_loop *loop)
{
    return selector != NULL && Py_IS_TYPE(selector, (PyTypeObject *)loop->state->poller_type) &&
           ((poller *)selector)->attached && ((poller *)selector)->loop == loop &&
           loop->core != NULL;
}

int cdpy_poller_turn(PyObject *selector, double timeout)
{
    poller *p = (poller *)selector;
    unsigned long outer;
    if (begin(p, &outer) < 0)
        return -1;
    p->woken = false;
    int result = turn(p, timeout, NULL);
    p->selecting = outer;
    return result;
}

static PyObject *select_once(poller *p, double timeout)
{
    if (p->attached && p->loop != NULL && p->loop->inherited) {
        (void)cdpy_fork_end(p->loop); /* a loop that is run by somebody else's code */
        return NULL;
    }
    if (is_closed(p))
        return raise_closed();
    PyObject *ready = PyList_New(0), *task = NULL;
    unsigned long outer;
    if (ready == NULL || begin(p, &outer) < 0) {
        Py_XDECREF(ready);
        return NULL;
    }
    int result = cdpy_set_task_aside(p->loop, &task);
    if (result == 0)
        result = turns(p, timeout, ready);
    p->selecting = outer;
    if (cdpy_put_task_back(p->loop, task) < 0 || result < 0)
        Py_CLEAR(ready);
    return ready;
}

PyDoc_STRVAR(select_doc,
             "select($self, /, timeout=None)\n--\n\n"
             "Run one turn of the core and return the ready descriptors as a list of (SelectorKey, "
             "events).\n\n"
             "timeout is in seconds: None waits for ever, 0 and less not at all. What servers on "
             "this loop have to\n"
             "do is done on the way. An exception that ends the program is raised from here.");

static PyObject *poller_select(PyObject *self, PyObject *const *args, Py_ssize_t count,
                               PyObject *names)
{
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    PyObject *value = count + named > 0 ? args[0] : Py_None;
    if (count + named > 1)
        return PyErr_Format(PyExc_TypeError, "select() takes at most 1 argument (%zd given)",
                            count + named);
    if (named == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "timeout") != 0)
        return PyErr_Format(PyExc_TypeError, "select() got an unexpected keyword argument %R",
                            PyTuple_GET_ITEM(names, 0));
    double timeout = timeout_of(value);
    return timeout == -2 ? NULL : select_once((poller *)self, timeout);
}

PyDoc_STRVAR(wake_doc, "wake($self, /)\n--\n\n"
                       "Make the select() that waits, or else the next one, return. From any "
                       "thread. Nothing when closed.");

static PyObject *poller_wake(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    poller *p = (poller *)self;
    if (!is_closed(p)) {
        p->woken = true;
        cd_loop_wake(p->loop->core);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(fileno_doc,
             "fileno($self, /)\n--\n\n"
             "Return a descriptor that is readable when something registered is ready.");

static PyObject *poller_fileno(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    poller *p = (poller *)self;
    return is_closed(p) ? raise_closed() : PyLong_FromLong(cd_loop_fileno(p->loop->core));
}

/* ---- get_map, get_key ---- */

PyDoc_STRVAR(get_map_doc,
             "get_map($self, /)\n--\n\n"
             "Return a live, read-only Mapping of file objects to SelectorKeys; None when closed.");

static PyObject *poller_get_map(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    poller *p = (poller *)self;
    if (is_closed(p))
        Py_RETURN_NONE;
    return PyObject_CallOneArg(p->loop->state->loop_map_type, self);
}

PyDoc_STRVAR(get_key_doc, "get_key($self, fileobj, /)\n--\n\n"
                          "Return the SelectorKey of a registered file object. KeyError: not "
                          "registered; RuntimeError: closed.");

static PyObject *poller_get_key(PyObject *self, PyObject *fileobj)
{
    poller *p = (poller *)self;
    if (is_closed(p)) {
        PyErr_SetString(PyExc_RuntimeError, "Selector is closed");
        return NULL;
    }
    slot *s = find(p, fileobj);
    return s == NULL ? NULL : key_of(p, (int)(s - p->slots));
}

static Py_ssize_t map_length(PyObject *self)
{
    return ((poller_map *)self)->poller->count;
}

static PyObject *map_item(PyObject *self, PyObject *fileobj)
{
    poller *p = ((poller_map *)self)->poller;
    slot *s = find(p, fileobj);
    return s == NULL ? NULL : key_of(p, (int)(s - p->slots));
}

static PyObject *map_iter(PyObject *self)
{
    poller *p = ((poller_map *)self)->poller;
    PyObject *list = PyList_New(0), *iterator = NULL;
    for (int i = 0; list != NULL && i < p->size; i++) {
        if (p->slots[i].fileobj == NULL)
            continue;
        PyObject *number = PyLong_FromLong(i);
        if (number == NULL || PyList_Append(list, number) < 0)
            Py_CLEAR(list);
        Py_XDECREF(number);
    }
    if (list != NULL)
        iterator = PyObject_GetIter(list);
    Py_XDECREF(list);
    return iterator;
}

static PyObject *map_get(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"key", "default", NULL};
    PyObject *fileobj, *otherwise = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:get", names, &fileobj, &otherwise))
        return NULL;
    poller *p = ((poller_map *)self)->poller;
    int fd = lookup(p, fileobj);
    if (fd < 0)
        return NULL;
    return slot_of(p, fd) == NULL ? Py_NewRef(otherwise) : key_of(p, fd);
}

static PyObject *map_new(PyTypeObject *type, PyObject *args, PyObject *Py_UNUSED(kwargs))
{
    PyObject *of;
    if (!PyArg_ParseTuple(args, "O:PollerMap", &of))
        return NULL;
    poller_map *map = (poller_map *)type->tp_alloc(type, 0);
    if (map != NULL)
        map->poller = (poller *)Py_NewRef(of); /* map_clear */
    return (PyObject *)map;
}

static int map_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((poller_map *)self)->poller);
    return 0;
}

static int map_clear(PyObject *self)
{
    Py_CLEAR(((poller_map *)self)->poller);
    return 0;
}

static void map_dealloc(PyObject *self)
{
    CDPY_DEALLOC(self, map_clear);
}

/* ---- life ---- */

/* Returns a new reference to the loop of a new Poller: the given one, or a bare one for None. */
static cdpy_loop *loop_for(PyTypeObject *type, PyObject *given)
{
    PyObject *module = PyType_GetModuleByDef(type, &cdpy_module);
    if (module == NULL)
        return NULL;
    cdpy_state *state = PyModule_GetState(module);
    if (given == Py_None)
        return cdpy_loop_bare(state);
    cdpy_loop *loop = cdpy_loop_check(state, given);
    if (loop != NULL && loop->polled) {
        PyErr_SetString(PyExc_RuntimeError, "the event loop has a Poller already");
        loop = NULL;
    }
    return (cdpy_loop *)Py_XNewRef(loop);
}

static PyObject *poller_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop", NULL};
    PyObject *given = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Poller", names, &given))
        return NULL;
    cdpy_loop *loop = loop_for(type, given);
    if (loop == NULL)
        return NULL;
    poller *p = (poller *)type->tp_alloc(type, 0);
    if (p == NULL) {
        Py_DECREF(loop);
        return NULL;
    }
    p->loop = loop; /* poller_clear */
    p->attached = given != Py_None;
    loop->polled = true;
    return (PyObject *)p;
}

PyDoc_STRVAR(close_doc,
             "close($self, /)\n--\n\n"
             "Forget every descriptor and free the core's loop. May be repeated.\n\n"
             "RuntimeError: select() is running, or a server is still open on the loop.");

static PyObject *poller_close(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    poller *p = (poller *)self;
    if (is_closed(p))
        Py_RETURN_NONE;
    if (p->selecting != 0) {
        PyErr_SetString(PyExc_RuntimeError, "cannot close a Poller while its select() is running");
        return NULL;
    }
    if (cdpy_loop_check_servers(p->loop) < 0)
        return NULL;
    forget_all(p);
    cdpy_loop_free_core(p->loop);
    Py_RETURN_NONE;
}

static PyObject *poller_enter(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

static PyObject *poller_exit(PyObject *self, PyObject *Py_UNUSED(args))
{
    return poller_close(self, NULL);
}

static int poller_traverse(PyObject *self, visitproc visit, void *arg)
{
    poller *p = (poller *)self;
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(p->loop);
    for (int i = 0; i < p->size; i++) {
        Py_VISIT(p->slots[i].fileobj);
        Py_VISIT(p->slots[i].data);
        Py_VISIT(p->slots[i].key);
    }
    return 0;
}

/* The core's loop is freed with the cdpy_loop: a server in the same garbage may still use it. */
static int poller_clear(PyObject *self)
{
    poller *p = (poller *)self;
    forget_all(p);
    Py_CLEAR(p->loop);
    return 0;
}

static void poller_dealloc(PyObject *self)
{
    CDPY_DEALLOC(self, poller_clear);
}

static PyMethodDef poller_methods[] = {
    {"register", (PyCFunction)(void (*)(void))poller_register, METH_VARARGS | METH_KEYWORDS,
     register_doc},
    {"unregister", poller_unregister, METH_O, unregister_doc},
    {"modify", (PyCFunction)(void (*)(void))poller_modify, METH_VARARGS | METH_KEYWORDS,
     modify_doc},
    {"select", (PyCFunction)(void (*)(void))poller_select, METH_FASTCALL | METH_KEYWORDS,
     select_doc},
    {"wake", poller_wake, METH_NOARGS, wake_doc},
    {"close", poller_close, METH_NOARGS, close_doc},
    {"fileno", poller_fileno, METH_NOARGS, fileno_doc},
    {"get_map", poller_get_map, METH_NOARGS, get_map_doc},
    {"get_key", poller_get_key, METH_O, get_key_doc},
    {"__enter__", poller_enter, METH_NOARGS, NULL},
    {"__exit__", poller_exit, METH_VARARGS, NULL},
    {NULL, NULL, 0, NULL},
};

PyDoc_STRVAR(
    poller_doc,
    "Poller(loop=None)\n--\n\n"
    "A selector over the core's event loop, with the interface of selectors.EpollSelector.\n\n"
    "With a loop (LoopBase) it is that loop's selector and select() serves its servers too. "
    "RuntimeError when the\n"
    "loop has one already or is closed; OSError when the system has no descriptor left.");

static PyType_Slot poller_slots[] = {
    {Py_tp_doc, (void *)poller_doc},
    {Py_tp_new, poller_new},
    {Py_tp_traverse, poller_traverse},
    {Py_tp_clear, poller_clear},
    {Py_tp_dealloc, poller_dealloc},
    {Py_tp_methods, poller_methods},
    {0, NULL},
};

static PyType_Spec poller_spec = {
    .name = "pyasgi._core.Poller",
    .basicsize = sizeof(poller),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = poller_slots,
};

static PyMethodDef map_methods[] = {
    {"get", (PyCFunction)(void (*)(void))map_get, METH_VARARGS | METH_KEYWORDS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot map_slots[] = {
    {Py_tp_new, map_new},        {Py_tp_iter, map_iter},       {Py_mp_length, map_length},
    {Py_mp_subscript, map_item}, {Py_tp_methods, map_methods}, {Py_tp_traverse, map_traverse},
    {Py_tp_clear, map_clear},    {Py_tp_dealloc, map_dealloc}, {0, NULL},
};

static PyType_Spec map_spec = {
    .name = "pyasgi._core.PollerMapBase",
    .basicsize = sizeof(poller_map),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE,
    .slots = map_slots,
};

/* Makes class PollerMap(PollerMapBase, collections.abc.Mapping): Mapping has the other methods,
 * written in Python. */
static int add_map_type(PyObject *module, cdpy_state *state)
{
    PyObject *base = NULL, *mapping = NULL;
    PyObject *abc = PyImport_ImportModule("collections.abc");
    if (abc != NULL)
        mapping = PyObject_GetAttrString(abc, "Mapping");
    if (mapping != NULL && cdpy_add_type(module, &map_spec, &base, NULL) == 0)
        state->loop_map_type =
            PyObject_CallFunction((PyObject *)Py_TYPE(mapping), "s(OO){s:s,s:()}", "PollerMap",
                                  base, mapping, "__module__", "pyasgi._core", "__slots__");
    Py_XDECREF(base);
    Py_XDECREF(mapping);
    Py_XDECREF(abc);
    return state->loop_map_type == NULL ? -1 : 0;
}

/* Makes isinstance(poller, selectors.BaseSelector) true. It calls ABCMeta's register(), because
 * BaseSelector has a register() of its own. */
static int register_base(cdpy_state *state)
{
    PyObject *result = NULL;
    PyObject *selectors = PyImport_ImportModule("selectors");
    PyObject *base = selectors == NULL ? NULL : PyObject_GetAttrString(selectors, "BaseSelector");
    if (base != NULL)
        result = PyObject_CallMethod((PyObject *)Py_TYPE(base), "register", "OO", base,
                                     state->poller_type);
    Py_XDECREF(result);
    Py_XDECREF(base);
    Py_XDECREF(selectors);
    return result == NULL ? -1 : 0;
}

int cdpy_poller_init(PyObject *module, cdpy_state *state)
{
    if (add_map_type(module, state) < 0)
        return -1;
    if (cdpy_add_type(module, &poller_spec, &state->poller_type, "Poller") < 0)
        return -1;
    return register_base(state);
}
