import { readFileSync, writeFileSync } from 'node:fs'
import type { MachineConfig } from '@roost/core'
import {
  busyboxLayers,
  newMachineId,
  raiseTrialHost,
} from '../../packages/agent/src/containerd/trial-host.ts'
import { run } from '../e2e/terminal.ts'
import { interleaved, type Report, timed } from './yardstick.ts'

const ROUNDS = 30
const CALLS = 100_000
/** A read and a write of one byte each. */
const LOOP = {
  command: ['/.roost/busybox', 'dd', 'if=/dev/zero', 'of=/dev/null', 'bs=1', `count=${CALLS}`],
}
const NEVER = new AbortController().signal

/**
 * Suspend and resume through the agent, against the same by hand: writing the freezer of the same machine and reading it back,
 * and `ctr tasks pause`. And the start of a machine in gVisor, against one that is not.
 */
export async function measureSuspend(report: Report): Promise<void> {
  const host = await raiseTrialHost()
  try {
    const agent = await host.openAgent()
    const image = await host.push('bench', {
      layers: busyboxLayers(),
      config: { Cmd: ['/bin/sleep', '1000'] },
    })
    await agent.runtime.pull(image, NEVER)
    let made = 0
    const create = async (isolation?: 'gvisor') => {
      const id = newMachineId()
      const slot = ++made
      await agent.runtime.create(
        {
          id,
          stamp: 'bench',
          image,
          config: isolation === undefined ? config : { ...config, isolation },
          hostname: id,
          ipv4: `10.210.4.${slot + 1}`,
          ipv6: `fdaa:0:1:1::${slot + 1}`,
        },
        NEVER,
      )
      return id
    }
    const id = await create()
    await agent.runtime.start(id, {}, NEVER)
    const ctr = (...args: string[]) =>
      run(['ctr', '--address', `${host.runDir}/containerd.sock`, '-n', 'roost', ...args])
    const byHand = freezerByHand(`${host.cgroupParent}/${id}`)
    const [suspend, resume] = [() => agent.runtime.suspend(id), () => agent.runtime.resume(id)]
    for (const [name, ours, yardstick, undoOurs, undoTheirs] of [
      ['suspend', suspend, byHand.freeze, resume, byHand.thaw],
      ['resume', resume, byHand.thaw, suspend, byHand.freeze],
    ] as const) {
      if (name === 'resume') await suspend()
      const measured = await interleaved(
        ROUNDS,
        async () => {
          const ms = await timed(ours)
          await undoOurs()
          return ms
        },
        async () => {
          const ms = await timed(yardstick)
          await undoTheirs()
          return ms
        },
      )
      report.compare({
        name: `${name} through the agent`,
        ...measured,
        unit: 'ms',
        against: 'the freezer, written by hand',
        goal: null,
      })
      if (name === 'resume') await resume()
    }
    const paused = await interleaved(
      ROUNDS,
      async () => (await timed(suspend)) + (await timed(resume)),
      async () =>
        (await timed(() => ctr('tasks', 'pause', id))) +
        (await timed(() => ctr('tasks', 'resume', id))),
    )
    report.compare({
      name: 'suspend and resume through the agent',
      ...paused,
      unit: 'ms',
      against: 'ctr tasks pause, resume',
      goal: { kind: 'at-most', ratio: 0.5 },
    })
    await agent.runtime.remove(id)
    const starts = async (isolation?: 'gvisor') => {
      const one = await create(isolation)
      const ms = await timed(() => agent.runtime.start(one, {}, NEVER))
      await agent.runtime.remove(one)
      return ms
    }
    const isolated = await interleaved(
      10,
      () => starts('gvisor'),
      () => starts(),
    )
    report.compare({
      name: 'start of a machine in gVisor',
      ...isolated,
      unit: 'ms',
      against: 'the same in runc',
      goal: null,
    })
    for (const isolation of ['gvisor', undefined] as const) {
      const where = isolation ?? 'runc'
      const one = await create(isolation)
      await agent.runtime.start(one, {}, NEVER)
      const megabytes = Number(
        readFileSync(
          `/sys/fs/cgroup/memory${host.cgroupParent}/${one}/memory.usage_in_bytes`,
          'utf8',
        ),
      )
      report.figure(`memory of a machine that sleeps, ${where}`, megabytes / 2 ** 20, 'MB')
      const loop = () => agent.runtime.exec(one, { ...LOOP, timeoutMs: 120_000 }, NEVER)
      const idle = () => agent.runtime.exec(one, { command: ['true'], timeoutMs: 120_000 }, NEVER)
      const ms = (await timed(loop)) - (await timed(idle))
      report.figure(`each of ${2 * CALLS} system calls, ${where}`, (1e3 * ms) / (2 * CALLS), 'µs')
      await agent.runtime.remove(one)
    }
    await agent.close()
  } finally {
    await host.close()
  }
}

function freezerByHand(path: string) {
  const file = `/sys/fs/cgroup/freezer${path}/freezer.state`
  const until = (state: string) => {
    writeFileSync(file, state)
    while (readFileSync(file, 'utf8').trim() !== state);
  }
  return {
    freeze: async () => until('FROZEN'),
    thaw: async () => until('THAWED'),
  }
}

const config: MachineConfig = {
  image: 'bench',
  env: {},
  init: {},
  guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 64 },
  services: [],
  checks: {},
  restart: { policy: 'no', max_retries: 0 },
  stop_config: { signal: 'SIGKILL', timeout_ms: 0 },
  metadata: {},
  auto_destroy: false,
}
