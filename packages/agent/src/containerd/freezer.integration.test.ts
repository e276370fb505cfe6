import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmdirSync, writeFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { join } from 'node:path'
import { runCommand, systemClock } from '@roost/base'
import type { MachineId } from '@roost/core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { conformanceConfig } from '../runtime.conformance.ts'
import type { MachineSpec } from '../runtime.ts'
import { openFreezer } from './freezer.ts'
import {
  busyboxLayers,
  eventually,
  newMachineId,
  raiseTrialHost,
  type TrialAgent,
  type TrialHost,
} from './trial-host.ts'

const endings: (() => void | Promise<void>)[] = []
afterEach(async () => {
  for (const end of endings.splice(0).reverse()) await end()
})

/** Version 2 lies beside version 1 where both are mounted. */
const ROOTS = [
  { name: 'version 1', root: '/sys/fs/cgroup', groups: '/sys/fs/cgroup/freezer' },
  { name: 'version 2', root: '/sys/fs/cgroup/unified', groups: '/sys/fs/cgroup/unified' },
  { name: 'version 2 alone', root: '/sys/fs/cgroup', groups: '/sys/fs/cgroup' },
].filter(({ name, root, groups }) => {
  const unified = existsSync(join(root, 'cgroup.controllers'))
  return existsSync(groups) && unified === (name !== 'version 1')
})

/** A Node that does nothing but begin has begun after so long. */
const EXEC_MS = 30
const EXEC_FREEZES = 2 * EXEC_MS

describe.each(ROOTS)('freezer of $name', ({ root, groups }) => {
  function group(name: string): string {
    const path = `/roost-freezer-test-${process.pid}-${name}`
    mkdirSync(join(groups, path))
    endings.push(() => rmdirSync(join(groups, path)))
    return path
  }
  /** Something that wants to run all the time, in the group. */
  async function program(
    path: string,
    argv: readonly [string, ...string[]] = ['sh', '-c', 'while :; do sleep 0.01; done'],
  ): Promise<() => string> {
    const [command, ...args] = argv
    const child = spawn(command, args, { stdio: 'ignore' })
    writeFileSync(join(groups, path, 'cgroup.procs'), String(child.pid))
    endings.push(async () => {
      const list = join(groups, path, 'cgroup.procs')
      // What it forks while we look is found the next time.
      while (readFileSync(list, 'utf8') !== '') {
        for (const pid of readFileSync(list, 'utf8').split('\n').filter(Boolean))
          try {
            process.kill(Number(pid), 'SIGKILL')
          } catch {
            // It has ended.
          }
        await systemClock.sleep(5)
      }
    })
    return () => readFileSync(`/proc/${child.pid}/schedstat`, 'utf8').split(' ')[0] ?? ''
  }
  const goesOn = async (ranFor: () => string) => {
    const before = ranFor()
    const deadline = Date.now() + 10_000
    while (ranFor() === before && Date.now() < deadline) await systemClock.sleep(10)
    return ranFor() !== before
  }

  test('what is frozen does not run, however often it is said, and goes on when it is thawed', async () => {
    const freezer = openFreezer(systemClock, root)
    const path = group('a')
    const inside = `${path}/b`
    mkdirSync(join(groups, inside))
    endings.push(() => rmdirSync(join(groups, inside)))
    const ranFor = await program(inside)
    expect(freezer.isFrozen(path)).toBe(false)
    await freezer.freeze(path)
    await freezer.freeze(path)
    expect(freezer.isFrozen(path)).toBe(true)
    // It was not told itself.
    expect(freezer.isFrozen(inside)).toBe(false)
    await standsStill(ranFor)
    freezer.thaw(path)
    freezer.thaw(path)
    expect(freezer.isFrozen(path)).toBe(false)
    expect(await goesOn(ranFor)).toBe(true)
  })

  test('a program of several threads that becomes another stands still, too', async () => {
    const freezer = openFreezer(systemClock, root)
    const path = group('exec')
    const again = 'process.execve(process.execPath, [process.execPath, ...process.execArgv])'
    await program(path, [process.execPath, '--no-warnings', '-e', again])
    for (let times = 0; times < EXEC_FREEZES; times++) {
      await freezer.freeze(path)
      freezer.thaw(path)
      // At any moment of its beginning.
      await systemClock.sleep(times % EXEC_MS)
    }
  })

  test('a group that is not there is not frozen, can be thawed, and is refused', async () => {
    const freezer = openFreezer(systemClock, root)
    expect(freezer.isFrozen('/nothing-here')).toBe(false)
    freezer.thaw('/nothing-here')
    await expect(freezer.freeze('/nothing-here')).rejects.toMatchObject({ retry: 'later' })
  })
})

/** The last thing that something did before it was frozen is counted, or written, a moment later. */
async function standsStill(look: () => unknown): Promise<void> {
  for (let tries = 0; tries < 50; tries++) {
    const before = await look()
    await systemClock.sleep(300)
    if ((await look()) === before) return
  }
  throw new Error('it goes on')
}

describe('a machine that is suspended', () => {
  const NEVER = new AbortController().signal
  /** Of each suspension. `FREEZE_MS=60000` is for a soak. */
  const FREEZE_MS = Number(process.env['FREEZE_MS'] ?? 2_500)
  const TICK_MS = 100
  /** All that a machine of a trial host may reach outside: it is its resolver, by TCP. */
  const OUTSIDE = { host: '198.18.0.53', port: 53 }

  const open: { host: TrialHost | null; agent: TrialAgent | null } = { host: null, agent: null }
  const host = (): TrialHost => open.host as TrialHost
  const agent = (): TrialAgent => open.agent as TrialAgent

  beforeAll(async () => {
    open.host = await raiseTrialHost()
    open.agent = await host().openAgent()
  })
  afterAll(async () => {
    await open.agent?.close()
    await open.host?.close()
  })

  async function launch(slot: number, script: string): Promise<MachineSpec> {
    const image = await host().push('trial', { layers: busyboxLayers() })
    const id = newMachineId()
    const spec = {
      id,
      stamp: `1:${id}`,
      image,
      config: conformanceConfig({ init: { exec: ['sh', '-c', script] } }),
      hostname: id,
      ipv4: `10.210.4.${2 + slot}`,
      ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
    }
    await agent().runtime.pull(spec.image, NEVER)
    await agent().runtime.create(spec, NEVER)
    await agent().runtime.start(spec.id, {}, NEVER)
    return spec
  }

  async function linesOf(id: MachineId): Promise<string[]> {
    const lines: string[] = []
    const asked = { machine: id, lines: 5000, follow: false, signal: NEVER }
    for await (const line of agent().logs.readLogs(asked)) if (line) lines.push(line.message)
    return lines
  }
  const said = (id: MachineId, what: string) =>
    eventually(async () => {
      const lines = await linesOf(id)
      if (!lines.includes(what)) throw new Error(`it said ${lines.slice(-5).join('|')}`)
      return lines
    })
  const stateOf = async (id: MachineId) => (await agent().runtime.look(id))?.state

  /** A new agent over what there is, as after its death. */
  async function agentDies(): Promise<void> {
    await open.agent?.close()
    open.agent = await host().openAgent()
  }

  test('what is suspended keeps its memory; its timers fire once and nothing comes in a burst', async () => {
    // One timer that ends in the middle of the suspension, and one that ticks.
    const { id } = await launch(
      0,
      `n=0; (sleep 2; echo alarm) & while :; do n=$((n+1)); echo "tick $n"; sleep ${TICK_MS / 1000}; done`,
    )
    await said(id, 'tick 3')
    await agent().runtime.suspend(id)
    await standsStill(async () => (await linesOf(id)).length)
    const before = await linesOf(id)
    await systemClock.sleep(FREEZE_MS)
    expect(await linesOf(id)).toEqual(before)
    expect(before).not.toContain('alarm')
    const resumedAt = Date.now()
    await agent().runtime.resume(id)
    const after = await said(id, `tick ${before.length + 5}`)
    const elapsedMs = Date.now() - resumedAt
    const ticks = after.filter((line) => line.startsWith('tick '))
    // It counts on where it was, and ticks no faster than its timer.
    expect(ticks).toEqual(ticks.map((_, n) => `tick ${n + 1}`))
    expect(ticks.length - before.length).toBeLessThanOrEqual(elapsedMs / TICK_MS + 2)
    expect(after.filter((line) => line === 'alarm')).toHaveLength(1)
    await agent().runtime.remove(id)
  })

  test('a connection to the outside outlives it: the kernel answers for the machine and keeps what arrives', async () => {
    const heard: { socket: Socket | null; text: string; ended: boolean } = {
      socket: null,
      text: '',
      ended: false,
    }
    const server = createServer((socket) => {
      heard.socket = socket
      // A peer that asks each second whether the other is there.
      socket.setKeepAlive(true, 1000)
      socket.setNoDelay(true)
      socket.on('data', (data) => {
        heard.text += String(data)
      })
      for (const over of ['end', 'error', 'close'] as const)
        socket.on(over, () => {
          heard.ended = true
        })
    })
    await runCommand(['ip', 'addr', 'add', `${OUTSIDE.host}/32`, 'dev', 'lo'])
    await new Promise<void>((resolve) => server.listen(OUTSIDE.port, OUTSIDE.host, resolve))
    const { id } = await launch(1, `exec nc ${OUTSIDE.host} ${OUTSIDE.port} -e cat`)
    try {
      const peer = await eventually(async () => {
        if (heard.socket === null) throw new Error(`nobody connected: ${await linesOf(id)}`)
        return heard.socket
      })
      peer.write('one')
      await eventually(async () => expect(heard.text).toBe('one'))
      await agent().runtime.suspend(id)
      peer.write('two')
      await systemClock.sleep(FREEZE_MS)
      expect(heard).toMatchObject({ text: 'one', ended: false })
      // Probes are sent, and the last of them was answered.
      const { stdout } = await runCommand(['ss', '-Htno', `sport = :${OUTSIDE.port}`])
      expect(stdout).toMatch(/timer:\(keepalive,[^,]*,0\)/)
      await agent().runtime.resume(id)
      await eventually(async () => expect(heard.text).toBe('onetwo'))
      peer.write('three')
      await eventually(async () => expect(heard.text).toBe('onetwothree'))
      expect(heard.ended).toBe(false)
    } finally {
      heard.socket?.destroy()
      server.close()
      await agent().runtime.remove(id)
    }
  })

  test('agent and containerd die while it is suspended: it stays so, and goes on as the same run', async () => {
    const { id } = await launch(2, 'n=0; while :; do n=$((n+1)); echo "tick $n"; sleep 0.1; done')
    await said(id, 'tick 2')
    const before = await agent().runtime.look(id)
    await agent().runtime.suspend(id)
    await agentDies()
    expect(await agent().runtime.look(id)).toEqual({ ...before, state: 'suspended' })
    await host().killContainerd()
    await host().startContainerd()
    await agentDies()
    expect(await agent().runtime.look(id)).toEqual({ ...before, state: 'suspended' })
    const stood = await linesOf(id)
    await agent().runtime.resume(id)
    expect(await agent().runtime.look(id)).toEqual(before)
    const ticks = await said(id, `tick ${stood.length + 3}`)
    expect(ticks).toEqual(ticks.map((_, n) => `tick ${n + 1}`))

    // Ended from outside while it is frozen, and by a stop that its program can answer.
    await agent().runtime.suspend(id)
    await agentDies()
    await agent().runtime.stop(id, { signal: 'SIGTERM', timeoutMs: 300 })
    expect(await stateOf(id)).toBe('exited')
    await agent().runtime.remove(id)
  })

  test('a stop of what is suspended lets its program end in its own way', async () => {
    const { id } = await launch(
      3,
      'trap "echo goodbye; exit 3" TERM; echo ready; while :; do sleep 0.05; done',
    )
    await said(id, 'ready')
    await agent().runtime.suspend(id)
    await agent().runtime.stop(id, { signal: 'SIGTERM', timeoutMs: 20_000 })
    expect(await linesOf(id)).toContain('goodbye')
    expect((await agent().runtime.look(id))?.exit).toMatchObject({ code: 3, signal: 0 })
    await agent().runtime.remove(id)
  })

  test('whoever froze it: the kernel says so, and its host thaws it', async () => {
    const { id } = await launch(4, 'while :; do sleep 0.05; done')
    const pid = await pidOf(id)
    const freezer = openFreezer(systemClock)
    await freezer.freeze(`${host().cgroupParent}/${id}`)
    expect(await stateOf(id)).toBe('suspended')
    await standsStill(() => readFileSync(`/proc/${pid}/schedstat`, 'utf8'))
    await agent().runtime.resume(id)
    expect(await stateOf(id)).toBe('running')
    await agent().runtime.remove(id)
  })

  async function pidOf(id: MachineId): Promise<number> {
    const found = (await agent().runtime.runs()).find((run) => run.id === id)
    if (!found) throw new Error(`${id} does not run`)
    return found.pid
  }
})
