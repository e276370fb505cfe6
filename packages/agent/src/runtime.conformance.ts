import type { ContainerConfig, MachineConfig, MachineId } from '@roost/core'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { MachineSpec, Runtime, RuntimeMachine } from './runtime.ts'

/** What the suite needs of whoever runs it: the port under test and images that behave in the ways that are named. */
export interface RuntimeUnderTest {
  readonly runtime: Runtime
  /** Another instance over the same containers: what an agent is after a restart. */
  reopen(): Promise<Runtime>
  /**
   * A runnable machine of its own id. `serves` runs until SIGTERM and then exits with 0. `exits` ends by itself soon, with
   * code 7. `deaf` ignores every signal that can be ignored. `broken` has a program that does not exist.
   */
  spec(program: 'serves' | 'exits' | 'deaf' | 'broken'): Promise<MachineSpec>
  /** Resolves when a program that runs has set up how it takes signals; a start returns before that. */
  ready(id: MachineId, container?: string): Promise<void>
  /** A runnable machine of containers that behave so. */
  several(containers: readonly ConformanceContainer[]): Promise<MachineSpec>
  close(): Promise<void>
}

export interface ConformanceContainer {
  readonly name: string
  readonly program: 'serves' | 'exits' | 'deaf' | 'broken'
  /** What it is stopped before. */
  readonly dependsOn?: readonly string[]
}

const NEVER = new AbortController().signal
const LIMIT = { timeout: 20_000, interval: 20 }

/** The promises of the Runtime port. The fake and the real one both keep them. */
export function describeRuntime(name: string, make: () => Promise<RuntimeUnderTest>): void {
  describe(`runtime: ${name}`, () => {
    const opened: RuntimeUnderTest[] = []
    afterEach(async () => {
      for (const under of opened.splice(0)) {
        for (const { id } of await under.runtime.list()) await under.runtime.remove(id)
        await under.close()
      }
    })
    async function open(): Promise<RuntimeUnderTest> {
      const under = await make()
      opened.push(under)
      return under
    }
    async function shown(runtime: Runtime, id: MachineId) {
      return (await runtime.list()).find((machine) => machine.id === id)
    }
    async function launched(program: 'serves' | 'deaf') {
      const under = await open()
      const spec = await under.spec(program)
      await under.runtime.pull(spec.image, NEVER)
      await under.runtime.create(spec, NEVER)
      await under.runtime.start(spec.id, { GREETING: 'hello' }, NEVER)
      await under.ready(spec.id)
      return { ...under, spec, look: () => shown(under.runtime, spec.id) }
    }

    test('a machine goes from nothing through created and running to nothing', async () => {
      const { runtime, spec: specOf } = await open()
      const spec = await specOf('serves')
      expect(await shown(runtime, spec.id)).toBeUndefined()
      await runtime.pull(spec.image, NEVER)
      await runtime.create(spec, NEVER)
      expect(await shown(runtime, spec.id)).toEqual({
        id: spec.id,
        stamp: spec.stamp,
        state: 'created',
        startedAt: null,
        exit: null,
      })
      await runtime.start(spec.id, {}, NEVER)
      const running = await shown(runtime, spec.id)
      expect(running).toMatchObject({ state: 'running', stamp: spec.stamp, exit: null })
      expect(running?.startedAt).toBeGreaterThan(0)
      await runtime.remove(spec.id)
      expect(await shown(runtime, spec.id)).toBeUndefined()
    })

    test('what is done already is no error', async () => {
      const { runtime, spec, look } = await launched('serves')
      await runtime.pull(spec.image, NEVER)
      await runtime.create(spec, NEVER)
      const before = await look()
      await runtime.start(spec.id, {}, NEVER)
      expect(await look()).toEqual(before)
      await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 5000 })
      await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 5000 })
      await runtime.remove(spec.id)
      await runtime.remove(spec.id)
      await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 5000 })
    })

    test('one that is looked at alone is as in the listing', async () => {
      const { runtime, spec, look } = await launched('serves')
      expect(await runtime.look(spec.id)).toEqual(await look())
      await runtime.remove(spec.id)
      expect(await runtime.look(spec.id)).toBeNull()
    })

    test('a stop sends its signal and returns when nothing is left', async () => {
      const { runtime, spec, look } = await launched('serves')
      await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 10_000 })
      const after = await look()
      expect(after?.state).toBe('exited')
      expect(after?.exit?.oomKilled).toBe(false)
    })

    test('a stop kills what does not listen, after its time', async () => {
      const { runtime, spec, look } = await launched('deaf')
      await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 300 })
      expect(await look()).toMatchObject({ state: 'exited', exit: { signal: 9 } })
    })

    test('a stop that is aborted kills nothing, and another one does', async () => {
      const { runtime, spec, look } = await launched('deaf')
      const changed = new AbortController()
      const stopping = runtime.stop(
        spec.id,
        { signal: 'SIGTERM', timeoutMs: 60_000 },
        changed.signal,
      )
      stopping.catch(() => {})
      changed.abort()
      await expect(stopping).rejects.toThrow()
      expect((await look())?.state).toBe('running')
      await runtime.stop(spec.id, { signal: 'SIGKILL', timeoutMs: 0 })
      expect((await look())?.state).toBe('exited')
    })

    test('a suspended machine stands still and goes on as the same run', async () => {
      const { runtime, spec, look } = await launched('serves')
      const before = await look()
      await runtime.suspend(spec.id)
      await runtime.suspend(spec.id)
      expect(await look()).toEqual({ ...before, state: 'suspended' })
      expect(await runtime.look(spec.id)).toEqual(await look())
      // What is done already is no error, and a start is no resume.
      await runtime.start(spec.id, {}, NEVER)
      expect((await look())?.state).toBe('suspended')
      await runtime.resume(spec.id)
      await runtime.resume(spec.id)
      expect(await look()).toEqual(before)
      await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 10_000 })
      expect((await look())?.exit).toMatchObject({ oomKilled: false })
    })

    test('what does not run can not be suspended, and a resume leaves it as it is', async () => {
      const { runtime, spec, look } = await launched('serves')
      await runtime.stop(spec.id, { signal: 'SIGKILL', timeoutMs: 0 })
      const ended = await look()
      await expect(runtime.suspend(spec.id)).rejects.toMatchObject({ name: 'PlatformError' })
      await runtime.resume(spec.id)
      expect(await look()).toEqual(ended)
    })

    test('a stop and a removal of what is suspended end it as if it ran', async () => {
      const { runtime, spec, look } = await launched('serves')
      await runtime.suspend(spec.id)
      await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 10_000 })
      expect((await look())?.state).toBe('exited')
      await runtime.start(spec.id, {}, NEVER)
      expect((await look())?.state).toBe('running')
      await runtime.suspend(spec.id)
      await runtime.remove(spec.id)
      expect(await look()).toBeUndefined()
    })

    test('another instance finds what is suspended, and resumes it', async () => {
      const { reopen, runtime, spec, look } = await launched('serves')
      const before = await look()
      await runtime.suspend(spec.id)
      const second = await reopen()
      expect((await shown(second, spec.id))?.state).toBe('suspended')
      await second.resume(spec.id)
      expect(await look()).toEqual(before)
    })

    test('a signal reaches the program, and what ends by it has ended by itself', async () => {
      const { runtime, spec, look } = await launched('serves')
      await runtime.signal(spec.id, 'SIGTERM')
      await vi.waitFor(async () => expect((await look())?.state).toBe('exited'), LIMIT)
      expect((await look())?.exit).toMatchObject({ code: 0, signal: 0, cause: null })
      await expect(runtime.signal(spec.id, 'SIGTERM')).rejects.toMatchObject({
        code: 'precondition_failed',
      })
    })

    test('a signal that a first process does not hear ends its program, too', async () => {
      const { runtime, spec, look } = await launched('serves')
      await runtime.signal(spec.id, 'SIGABRT')
      await vi.waitFor(async () => expect((await look())?.state).toBe('exited'), LIMIT)
      expect((await look())?.exit).toMatchObject({ code: 134, signal: 6, cause: null })
    })

    test('what ignores a signal goes on, and a kill can not be ignored', async () => {
      const { runtime, spec, look } = await launched('deaf')
      await runtime.signal(spec.id, 'SIGTERM')
      expect((await look())?.state).toBe('running')
      await runtime.suspend(spec.id)
      await expect(runtime.signal(spec.id, 'SIGKILL')).rejects.toMatchObject({
        code: 'precondition_failed',
      })
      await runtime.resume(spec.id)
      await runtime.signal(spec.id, 'SIGKILL')
      await vi.waitFor(async () => expect((await look())?.state).toBe('exited'), LIMIT)
      expect((await look())?.exit).toMatchObject({ signal: 9 })
      await runtime.remove(spec.id)
      await expect(runtime.signal(spec.id, 'SIGTERM')).rejects.toMatchObject({ code: 'not_found' })
    })

    test('an exit is shown with its code, the same each time, and hinted at', async () => {
      const under = await open()
      const spec = await under.spec('exits')
      const heard: string[] = []
      const unhear = under.runtime.onChange((id) => heard.push(id))
      await under.runtime.pull(spec.image, NEVER)
      await under.runtime.create(spec, NEVER)
      await under.runtime.start(spec.id, {}, NEVER)
      await vi.waitFor(
        async () => expect((await shown(under.runtime, spec.id))?.state).toBe('exited'),
        LIMIT,
      )
      const exited = await shown(under.runtime, spec.id)
      expect(exited?.exit).toMatchObject({ code: 7, signal: 0, oomKilled: false })
      expect(await shown(under.runtime, spec.id)).toEqual(exited)
      await vi.waitFor(() => expect(heard).toContain(spec.id), LIMIT)
      unhear()
    })

    test('what exited starts again', async () => {
      const { runtime, spec, look } = await launched('serves')
      await runtime.stop(spec.id, { signal: 'SIGKILL', timeoutMs: 0 })
      const ended = await look()
      await runtime.start(spec.id, {}, NEVER)
      const again = await look()
      expect(again).toMatchObject({ state: 'running', exit: null })
      expect(again?.startedAt ?? 0).toBeGreaterThanOrEqual(ended?.exit?.at ?? Infinity)
    })

    test('a removal ends what runs', async () => {
      const { runtime, spec, look } = await launched('deaf')
      await runtime.remove(spec.id)
      expect(await look()).toBeUndefined()
    })

    test('a machine of another version is not replaced by a create', async () => {
      const { runtime, spec, look } = await launched('serves')
      await runtime.create({ ...spec, stamp: 'other' }, NEVER).catch(() => {})
      expect((await look())?.stamp).toBe(spec.stamp)
    })

    test('a program that does not exist fails for good, and can be removed', async () => {
      const { runtime, spec: specOf } = await open()
      const spec = await specOf('broken')
      await runtime.pull(spec.image, NEVER)
      const attempt = (async () => {
        await runtime.create(spec, NEVER)
        await runtime.start(spec.id, {}, NEVER)
      })()
      await expect(attempt).rejects.toMatchObject({ name: 'PlatformError', retry: 'never' })
      await runtime.remove(spec.id)
      expect(await shown(runtime, spec.id)).toBeUndefined()
    })

    test('an image that is nowhere is a PlatformError', async () => {
      const { runtime, spec: specOf } = await open()
      const { image } = await specOf('serves')
      const digest = `sha256:${'0'.repeat(64)}`
      await expect(runtime.pull({ ...image, digest }, NEVER)).rejects.toMatchObject({
        name: 'PlatformError',
      })
    })

    test('a program in a machine reads what it is given, and its output and exit code come back', async () => {
      const { runtime, spec } = await launched('serves')
      const stdin = Buffer.alloc(1_000_000, 'roost ')
      const limits = { timeoutMs: 20_000, outputBytesMax: 2_000_000 }
      const command = ['cat']
      const read = await runtime.exec(spec.id, { command, stdin, ...limits }, NEVER)
      expect(read).toMatchObject({ exitCode: 0, stdoutCut: 0, stderrCut: 0 })
      expect(read.stdout.equals(stdin)).toBe(true)
      const said = await runtime.exec(spec.id, { command: ['echo', 'a b', 'c'], ...limits }, NEVER)
      expect([said.stdout.toString(), said.stderr.toString()]).toEqual(['a b c\n', ''])
      expect((await runtime.exec(spec.id, { command: ['false'], ...limits }, NEVER)).exitCode).toBe(
        1,
      )
      const missing = { command: ['nothing-here'], ...limits }
      expect((await runtime.exec(spec.id, missing, NEVER)).exitCode).toBe(127)
    })

    test('output beyond what was asked for is counted and left away', async () => {
      const { runtime, spec } = await launched('serves')
      const stdin = Buffer.alloc(100_000, 'x')
      const limits = { timeoutMs: 20_000, outputBytesMax: 1000 }
      const read = await runtime.exec(spec.id, { command: ['cat'], stdin, ...limits }, NEVER)
      expect([read.exitCode, read.stdout.length, read.stdoutCut]).toEqual([0, 1000, 99_000])
    })

    test('a program that takes too long is killed; one that nobody waits for any more too', async () => {
      const { runtime, spec } = await launched('serves')
      const sleep = { command: ['sleep', '1000'] }
      const late = await runtime.exec(spec.id, { ...sleep, timeoutMs: 300 }, NEVER)
      expect(late.exitCode).toBeNull()
      const gone = new AbortController()
      const running = runtime.exec(spec.id, { ...sleep, timeoutMs: 60_000 }, gone.signal)
      running.catch(() => {})
      gone.abort()
      await expect(running).rejects.toThrow()
    })

    test('a session hears signals, and ends when it is closed or its machine ends', async () => {
      const { runtime, spec } = await launched('deaf')
      const open = () => runtime.openSession(spec.id, { command: ['sleep', '1000'] }, NEVER)
      const [signalled, closed, stopped] = [await open(), await open(), await open()]
      await signalled.signal('SIGTERM')
      expect(await signalled.exit).toBe(143)
      await expect(signalled.signal('SIGNOTHING')).rejects.toMatchObject({ code: 'invalid' })
      await closed.close()
      expect(await closed.exit).toBe(137)
      await closed.close()
      await runtime.stop(spec.id, { signal: 'SIGKILL', timeoutMs: 0 })
      expect(await stopped.exit).toBe(137)
      for (const session of [signalled, stopped]) await session.close()
    })

    test('a reader that waits holds the program up, and loses nothing', async () => {
      const { runtime, spec } = await launched('serves')
      const session = await runtime.openSession(spec.id, { command: ['cat'] }, NEVER)
      const sent = Buffer.alloc(600_000, 'slow')
      session.stdin.end(sent)
      let bytes = 0
      for await (const chunk of session.stdout) {
        bytes += (chunk as Buffer).length
        await new Promise((resolve) => setImmediate(resolve))
      }
      expect([bytes, await session.exit]).toEqual([sent.length, 0])
      await session.close()
    })

    test('nothing is started in what does not run, or is not there', async () => {
      const { runtime, spec } = await launched('serves')
      const request = { command: ['true'], timeoutMs: 5000 }
      await expect(
        runtime.exec(spec.id, { ...request, container: 'nobody' }, NEVER),
      ).rejects.toMatchObject({ code: 'not_found' })
      await runtime.suspend(spec.id)
      await expect(runtime.exec(spec.id, request, NEVER)).rejects.toMatchObject({
        code: 'precondition_failed',
        message: `machine ${spec.id} is suspended; resume it first: roost machine resume ${spec.id}`,
      })
      await runtime.resume(spec.id)
      await expect(runtime.exec(spec.id, { ...request, command: [] }, NEVER)).rejects.toMatchObject(
        { code: 'invalid' },
      )
      await runtime.stop(spec.id, { signal: 'SIGKILL', timeoutMs: 0 })
      await expect(runtime.exec(spec.id, request, NEVER)).rejects.toMatchObject({
        code: 'precondition_failed',
      })
      await runtime.remove(spec.id)
      await expect(runtime.exec(spec.id, request, NEVER)).rejects.toMatchObject({
        code: 'not_found',
      })
    })

    describeSeveral({ open, shown })

    test('another instance finds what runs, and goes on with it', async () => {
      const { reopen, spec, look } = await launched('serves')
      const before = await look()
      const second = await reopen()
      expect(await shown(second, spec.id)).toEqual(before)
      await second.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 10_000 })
      expect((await shown(second, spec.id))?.state).toBe('exited')
    })
  })
}

/** The same for machines of several containers. */
function describeSeveral(suite: {
  readonly open: () => Promise<RuntimeUnderTest>
  readonly shown: (runtime: Runtime, id: MachineId) => Promise<RuntimeMachine | undefined>
}): void {
  async function raised(containers: readonly ConformanceContainer[]) {
    const under = await suite.open()
    const { runtime } = under
    const spec = await under.several(containers)
    await runtime.pull(spec.image, NEVER)
    await runtime.create(spec, NEVER)
    const whole = async () => {
      const machine = await suite.shown(runtime, spec.id)
      expect((await runtime.look(spec.id)) ?? undefined).toEqual(machine)
      return machine
    }
    const look = async (name: string) =>
      (await whole())?.containers?.find((one) => one.name === name)
    const startContainer = (name: string) =>
      runtime.startContainer(spec.id, name, { environment: { GREETING: name } }, NEVER)
    return { ...under, spec, look, whole, startContainer }
  }
  const BOTH: readonly ConformanceContainer[] = [
    { name: 'app', program: 'serves', dependsOn: ['db'] },
    { name: 'db', program: 'serves' },
  ]

  test('a machine of containers runs from its start, and each of them from its own', async () => {
    const { runtime, spec, look, whole, startContainer } = await raised(BOTH)
    const idle = (name: string) => ({ name, state: 'created', startedAt: null, exit: null })
    expect(await whole()).toEqual({
      id: spec.id,
      stamp: spec.stamp,
      state: 'created',
      startedAt: null,
      exit: null,
      containers: [idle('app'), idle('db')],
    })
    await expect(startContainer('app')).rejects.toMatchObject({ code: 'precondition_failed' })
    await runtime.create(spec, NEVER)
    await runtime.start(spec.id, {}, NEVER)
    expect(await whole()).toMatchObject({ state: 'running', containers: [idle('app'), idle('db')] })
    await startContainer('db')
    const before = await look('db')
    expect(before).toMatchObject({ state: 'running', exit: null })
    await startContainer('db')
    await runtime.start(spec.id, {}, NEVER)
    expect(await look('db')).toEqual(before)
    expect(await look('app')).toEqual(idle('app'))
    await runtime.remove(spec.id)
    expect(await whole()).toBeUndefined()
  })

  test('one ends and starts again without the other, and its exit is shown and hinted at', async () => {
    const { runtime, spec, look, whole, startContainer } = await raised([
      { name: 'app', program: 'serves' },
      { name: 'once', program: 'exits' },
    ])
    const heard: string[] = []
    const unhear = runtime.onChange((id) => heard.push(id))
    await runtime.start(spec.id, {}, NEVER)
    await startContainer('app')
    const app = await look('app')
    await startContainer('once')
    await vi.waitFor(async () => expect((await look('once'))?.state).toBe('exited'), LIMIT)
    const once = await look('once')
    expect(once?.exit).toMatchObject({ code: 7, signal: 0, cause: null })
    expect(await look('once')).toEqual(once)
    expect(heard).toContain(spec.id)
    unhear()
    expect(await whole()).toMatchObject({ state: 'running', exit: null })
    await startContainer('once')
    await vi.waitFor(async () => expect((await look('once'))?.state).toBe('exited'), LIMIT)
    expect((await look('once'))?.startedAt ?? 0).toBeGreaterThanOrEqual(once?.startedAt ?? Infinity)
    expect(await look('app')).toEqual(app)
  })

  test('one is stopped alone, with the time that it has', async () => {
    const { runtime, spec, ready, look, whole, startContainer } = await raised([
      { name: 'app', program: 'serves' },
      { name: 'deaf', program: 'deaf' },
    ])
    await runtime.start(spec.id, {}, NEVER)
    for (const name of ['app', 'deaf']) {
      await startContainer(name)
      await ready(spec.id, name)
    }
    await runtime.stopContainer(spec.id, 'deaf', { signal: 'SIGTERM', timeoutMs: 300 })
    expect(await look('deaf')).toMatchObject({ state: 'exited', exit: { signal: 9 } })
    expect(await whole()).toMatchObject({
      state: 'running',
      containers: [{ state: 'running' }, {}],
    })
    await runtime.stopContainer(spec.id, 'deaf', { signal: 'SIGTERM', timeoutMs: 300 })
  })

  test('a stop ends all of them, those that depend on others first, and then it is as new', async () => {
    const { runtime, spec, ready, whole, startContainer } = await raised(BOTH)
    await runtime.start(spec.id, {}, NEVER)
    for (const name of ['db', 'app']) {
      await startContainer(name)
      await ready(spec.id, name)
    }
    await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 10_000 })
    const after = await whole()
    expect(after?.state).toBe('exited')
    const [app, db] = after?.containers ?? []
    expect(app?.exit?.at).toBeLessThanOrEqual(db?.exit?.at ?? 0)
    expect(await whole()).toEqual(after)
    await runtime.stop(spec.id, { signal: 'SIGTERM', timeoutMs: 10_000 })
    await runtime.start(spec.id, {}, NEVER)
    expect(await whole()).toMatchObject({
      state: 'running',
      exit: null,
      containers: [{ state: 'created' }, { state: 'created' }],
    })
  })

  test('a stop may say how the run counts as having ended', async () => {
    const { runtime, spec, whole, startContainer } = await raised(BOTH)
    await runtime.start(spec.id, {}, NEVER)
    await startContainer('db')
    const exit = { code: 3, signal: 0, oomKilled: false, cause: null, at: 1000, container: 'db' }
    await runtime.stop(spec.id, { signal: 'SIGKILL', timeoutMs: 0, exit })
    expect(await whole()).toMatchObject({ state: 'exited', exit })
  })

  test('a container that can not be started is refused for good, and has not run', async () => {
    const { runtime, spec, look, startContainer } = await raised([
      { name: 'app', program: 'serves' },
    ])
    await runtime.start(spec.id, {}, NEVER)
    await expect(startContainer('other')).rejects.toMatchObject({ name: 'PlatformError' })
    expect(await look('app')).toMatchObject({ state: 'created' })
  })

  test('all of them are suspended and resumed as one', async () => {
    const { runtime, spec, whole, startContainer } = await raised(BOTH)
    await runtime.start(spec.id, {}, NEVER)
    for (const name of ['db', 'app']) await startContainer(name)
    const before = await whole()
    await runtime.suspend(spec.id)
    expect((await whole())?.state).toBe('suspended')
    await runtime.resume(spec.id)
    expect(await whole()).toEqual(before)
  })

  test('another instance finds them all, and goes on', async () => {
    const { runtime, reopen, spec, look, whole, ready, startContainer } = await raised(BOTH)
    await runtime.start(spec.id, {}, NEVER)
    await startContainer('db')
    await ready(spec.id, 'db')
    const before = await whole()
    const second = await reopen()
    expect(await second.look(spec.id)).toEqual(before)
    await second.startContainer(spec.id, 'app', { environment: {} }, NEVER)
    expect((await look('app'))?.state).toBe('running')
    expect(await look('db')).toEqual(before?.containers?.[1])
    await second.remove(spec.id)
    expect(await whole()).toBeUndefined()
  })
}

/** A container for specs, to be completed by whoever runs the suite. */
export function conformanceContainer(
  { name, dependsOn = [] }: ConformanceContainer,
  change: Partial<ContainerConfig> = {},
): ContainerConfig {
  return {
    name,
    image: 'registry.internal/conformance:1',
    env: {},
    env_from: [],
    files: [],
    depends_on: dependsOn.map((on) => ({ name: on, condition: 'started' })),
    healthchecks: [],
    mounts: [],
    ...change,
  }
}

/** A configuration for specs, to be completed by whoever runs the suite. */
export function conformanceConfig(change: Partial<MachineConfig> = {}): MachineConfig {
  return {
    image: 'registry.internal/conformance:1',
    env: {},
    init: {},
    guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 64 },
    services: [],
    checks: {},
    restart: { policy: 'no', max_retries: 0 },
    stop_config: { signal: 'SIGTERM', timeout_ms: 5000 },
    metadata: {},
    auto_destroy: false,
    ...change,
  }
}
