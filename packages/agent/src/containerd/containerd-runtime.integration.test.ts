import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism } from 'node:os'
import { join } from 'node:path'
import type { MachineId } from '@roost/core'
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest'
import { conformanceConfig, conformanceContainer, describeRuntime } from '../runtime.conformance.ts'
import type { Environment, MachineSpec } from '../runtime.ts'
import { snapshots } from './generated/index.js'
import {
  busyboxLayers,
  eventually,
  newMachineId,
  raiseTrialHost,
  type TrialAgent,
  type TrialHost,
} from './trial-host.ts'

const trial: { host: TrialHost | null } = { host: null }
const host = (): TrialHost => {
  if (!trial.host) throw new Error('no trial host')
  return trial.host
}
const slots = { next: 0 }

beforeAll(async () => {
  trial.host = await raiseTrialHost()
})
afterAll(async () => {
  await trial.host?.close()
})

const programs = {
  serves: ['sh', '-c', 'trap "exit 0" TERM; echo ready; while :; do sleep 0.05; done'],
  exits: ['sh', '-c', 'echo bye; exit 7'],
  deaf: ['sh', '-c', 'trap "" TERM INT HUP; echo ready; while :; do sleep 0.05; done'],
  broken: ['/bin/nothing-here'],
}

async function specOf(program: readonly string[], user = ''): Promise<MachineSpec> {
  const image = await host().push('trial', { layers: busyboxLayers(), config: { User: user } })
  const id = newMachineId()
  const slot = slots.next++
  return {
    id,
    stamp: `1:${id}`,
    image,
    config: conformanceConfig({ init: { exec: program } }),
    hostname: id,
    ipv4: `10.210.4.${2 + slot}`,
    ipv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
  }
}

describeRuntime('containerd', async () => {
  const agent = await host().openAgent()
  const others: { close(): Promise<void> }[] = []
  return {
    runtime: agent.runtime,
    async reopen() {
      const other = await host().openAgent()
      others.push(other)
      return other.runtime
    },
    spec: (program) => specOf(programs[program]),
    several: async (parts) => {
      const spec = await specOf(programs.serves)
      const containers = parts.map((one) =>
        conformanceContainer(one, { exec: programs[one.program] }),
      )
      return { ...spec, config: conformanceConfig({ containers }) }
    },
    ready: (id, container) =>
      eventually(async () => {
        const asked = { machine: id, container, lines: 10, follow: false, signal: NEVER }
        for await (const line of agent.logs.readLogs(asked)) if (line?.message === 'ready') return
        throw new Error(`${id} is not ready`)
      }),
    async close() {
      await agent.close()
      for (const other of others) await other.close()
    },
  }
})

describe('machines on containerd', () => {
  const open: { agent: TrialAgent | null } = { agent: null }
  const agent = (): TrialAgent => {
    if (!open.agent) throw new Error('no agent')
    return open.agent
  }
  beforeAll(async () => {
    open.agent = await host().openAgent()
  })
  afterEach(async () => {
    for (const { id } of await agent().runtime.list()) await agent().runtime.remove(id)
  })
  afterAll(async () => {
    await open.agent?.close()
  })

  async function launch(spec: MachineSpec, environment: Environment = {}): Promise<MachineSpec> {
    await agent().runtime.pull(spec.image, NEVER)
    await agent().runtime.create(spec, NEVER)
    await agent().runtime.start(spec.id, environment, NEVER)
    return spec
  }
  async function look(id: MachineId) {
    return (await agent().runtime.list()).find((machine) => machine.id === id)
  }
  async function exited(id: MachineId) {
    return eventually(async () => {
      const machine = await look(id)
      if (machine?.state !== 'exited') throw new Error(`${id} is ${machine?.state}`)
      return machine
    })
  }
  async function said(id: MachineId, wanted: string): Promise<string[]> {
    return eventually(async () => {
      const lines: string[] = []
      const asked = { machine: id, lines: 1000, follow: false, signal: NEVER }
      for await (const line of agent().logs.readLogs(asked)) if (line) lines.push(line.message)
      if (!lines.some((line) => line.includes(wanted)))
        throw new Error(`it said ${lines.join('|')}`)
      return lines
    })
  }

  test('runs as the user that the image names, with its groups, home, directory and limits', async () => {
    const script =
      'id; echo "home=$HOME pwd=$PWD host=$(cat /etc/hostname 2>/dev/null; hostname)"; cat /etc/hosts /etc/resolv.conf; ' +
      'grep -E "^(NoNewPrivs|Seccomp|CapEff|CapBnd):" /proc/self/status; cat /.roost/env >/dev/null && echo own; ulimit -n'
    const image = await host().push('trial', {
      layers: busyboxLayers(['sh', 'id', 'cat', 'hostname', 'grep']),
      config: {
        User: 'app',
        WorkingDir: '/home/app',
        Env: ['FROM_IMAGE=1'],
        Cmd: ['sh', '-c', script],
      },
    })
    const spec = await launch({ ...(await specOf([])), image, config: conformanceConfig() })
    const lines = await said(spec.id, 'own')
    expect(lines[0]).toBe('uid=1000(app) gid=1001(app) groups=1001(app),2000(extra)')
    expect(lines).toContain(`home=/home/app pwd=/home/app host=${spec.hostname}`)
    expect(lines).toContain(`${spec.ipv6}\t${spec.id} fly-local-6pn`)
    expect(lines).toContain('nameserver 198.18.0.53')
    expect(lines.join('\n')).toMatch(/CapEff:\s+0{16}\n/)
    expect(lines.join('\n')).toMatch(/NoNewPrivs:\s+1\n/)
    expect(lines.join('\n')).toMatch(/Seccomp:\s+2\n/)
  })

  test('an image from scratch runs, and one without a program is refused', async () => {
    const layers = [{ busybox: { content: readFileSync('/bin/busybox'), mode: 0o755 } }]
    const config = { Entrypoint: ['/busybox'], Cmd: ['echo', 'from scratch'] }
    const image = await host().push('scratch', { layers, config })
    const spec = { ...(await specOf([])), image, config: conformanceConfig() }
    await launch(spec)
    await said(spec.id, 'from scratch')
    expect((await exited(spec.id)).exit?.code).toBe(0)

    const nothing = await host().push('scratch', { layers })
    const other = { ...(await specOf([])), image: nothing, config: conformanceConfig() }
    await expect(launch(other)).rejects.toThrow('neither ENTRYPOINT nor CMD')
  })

  test('what an image is not for is refused with a reason', async () => {
    const layers = busyboxLayers()
    const image = await host().push('arm', { layers, architecture: 'arm64' })
    await expect(agent().runtime.pull(image, NEVER)).rejects.toMatchObject({
      code: 'image_unusable',
      retry: 'never',
    })
    const spec = await specOf(['sh'], 'nobody-here')
    await agent().runtime.pull(spec.image, NEVER)
    await expect(agent().runtime.create(spec, NEVER)).rejects.toMatchObject({
      code: 'image_unusable',
      message: 'user "nobody-here" is not in /etc/passwd of the image',
    })
  })

  test('all machines together weigh as much as the processors of the host, not as one process', async () => {
    await launch(await specOf(['sleep', '60']))
    const sharesOf = (path: string) =>
      Number(readFileSync(join('/sys/fs/cgroup/cpu', path, 'cpu.shares'), 'utf8'))
    const cpus = availableParallelism()
    if (existsSync('/sys/fs/cgroup/cpu')) expect(sharesOf(host().cgroupParent)).toBe(1024 * cpus)
    else {
      const weight = join('/sys/fs/cgroup', host().cgroupParent, 'cpu.weight')
      expect(Number(readFileSync(weight, 'utf8'))).toBe(100 * cpus)
    }
  })

  test('the kernel’s kill for want of memory is seen', async () => {
    const spec = await specOf(['sh', '-c', 'a=x; while :; do a=$a$a; done'])
    await launch(spec)
    expect((await exited(spec.id)).exit).toMatchObject({ code: 137, signal: 9, oomKilled: true })
  })

  test('secrets reach the program byte for byte and lie nowhere on a disk', async () => {
    const secret = `planted-${newMachineId()}`
    const environment = { SECRET: secret, HARD: `a'b"c\\$d\n\ne`, EMPTY: '' }
    const spec = await launch(
      await specOf(['sh', '-c', 'env; echo "[$HARD]"; sleep 60']),
      environment,
    )
    const lines = await said(spec.id, `SECRET=${secret}`)
    expect(lines.join('\n')).toContain(`[a'b"c\\$d\n\ne]`)
    // It printed the secret itself, so its log is not looked at.
    const places = [
      host().containerdRoot,
      join(host().runDir, 'containerd'),
      join(host().runDir, 'runc'),
    ]
    const found = () => places.flatMap((place) => filesWith(place, secret))
    expect(found()).toEqual([])
    await agent().runtime.stop(spec.id, { signal: 'SIGKILL', timeoutMs: 0 })
    expect(found()).toEqual([])
    await agent().runtime.remove(spec.id)
    expect(found()).toEqual([])
    expect(filesWith(host().runDir, secret)).toEqual([])
  })

  test('kill -9 of containerd: machines run on, an exit meanwhile is known, and a new agent adopts them', async () => {
    const serving = await launch(await specOf(programs.serves))
    const ending = await launch(
      await specOf(['sh', '-c', 'while [ ! -e /go ]; do sleep 0.05; done; exit 42']),
    )
    const before = await look(serving.id)
    await host().killContainerd()
    await expect(agent().runtime.list()).rejects.toMatchObject({ code: 'unavailable' })
    const rootfs = join(host().runDir, 'containerd/io.containerd.runtime.v2.task/roost')
    // The machine's own root, as its process sees it.
    const pid = readFileSync(join(rootfs, ending.id, 'init.pid'), 'utf8').trim()
    writeFileSync(`/proc/${pid}/root/go`, '')
    await eventually(async () => {
      if (existsSync(`/proc/${pid}/root/go`)) throw new Error('still there')
    })
    await host().startContainerd()

    const other = await host().openAgent()
    try {
      const shown = await eventually(() => other.runtime.list())
      expect(shown.find(({ id }) => id === serving.id)).toEqual(before)
      expect(shown.find(({ id }) => id === ending.id)?.exit?.code).toBe(42)
      // The first one's connection comes back by itself, and so do its events.
      const heard: string[] = []
      const unhear = agent().runtime.onChange((id) => heard.push(id))
      await eventually(() => agent().runtime.list())
      await other.runtime.stop(serving.id, { signal: 'SIGTERM', timeoutMs: 10_000 })
      expect((await look(serving.id))?.exit?.code).toBe(0)
      // A hint may fall into the gap before the events are followed again: another start makes another.
      await eventually(async () => {
        await agent().runtime.start(serving.id, {}, NEVER)
        await agent().runtime.stop(serving.id, { signal: 'SIGKILL', timeoutMs: 0 })
        expect(heard).toContain(serving.id)
      })
      unhear()
    } finally {
      await other.close()
    }
  })

  test('after a power cut a machine is raised again from its container alone', async () => {
    const spec = await launch(await specOf(['sh', '-c', 'echo "life $A"; sleep 60']), { A: 'one' })
    await said(spec.id, 'life one')
    const task = join(host().runDir, 'containerd/io.containerd.runtime.v2.task/roost', spec.id)
    const pid = readFileSync(join(task, 'init.pid'), 'utf8').trim()
    const shim = /^PPid:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]
    await host().killContainerd()
    for (const one of [shim, pid]) process.kill(Number(one), 'SIGKILL')
    await agent().network.detach(spec.id)
    rmSync(join(host().runDir, 'machines', spec.id), { recursive: true })
    await host().startContainerd()
    const cut = await eventually(async () => {
      const machine = await look(spec.id)
      if (machine?.state !== 'exited') throw new Error(`it is ${machine?.state}`)
      return machine
    })
    expect(cut.exit).toMatchObject({ code: 137, signal: 9 })
    await agent().runtime.start(spec.id, { A: 'two' }, NEVER)
    await said(spec.id, 'life two')
    expect((await look(spec.id))?.state).toBe('running')
  })

  test('what a crash leaves behind is swept at the next start', async () => {
    const spec = await launch(await specOf(programs.serves))
    const id = newMachineId()
    await agent().network.attach({ id, ipv4: '10.210.7.200', ipv6: 'fdaa:0:1:1:ffff:ffff:ffff:2' })
    writeFileSync(agent().logs.file(id), 'left\n')
    mkdirSync(join(host().runDir, 'machines', id))
    mkdirSync(join('/sys/fs/cgroup/memory', host().cgroupParent, id), { recursive: true })
    const request = { snapshotter: 'overlayfs', key: id, parent: '', labels: GC_ROOT }
    await agent().client.call(snapshots.SnapshotsService.prepare, request)

    const other = await host().openAgent()
    await other.close()
    expect(existsSync(`/run/netns/roost-${id}`)).toBe(false)
    expect(readFileSync('/proc/net/dev', 'utf8')).not.toContain(`v${id}`)
    expect(existsSync(agent().logs.file(id))).toBe(false)
    expect(existsSync(join(host().runDir, 'machines', id))).toBe(false)
    expect(existsSync(join('/sys/fs/cgroup/memory', host().cgroupParent, id))).toBe(false)
    const stat = agent().client.call(snapshots.SnapshotsService.stat, {
      snapshotter: 'overlayfs',
      key: id,
    })
    await expect(stat).rejects.toThrow()
    expect((await look(spec.id))?.state).toBe('running')
  })

  test('three at once, from one image that nobody has yet; nothing of them is left', async () => {
    const layers = [...busyboxLayers(), { [`only-${newMachineId()}`]: { content: 'x' } }]
    const image = await host().push('fresh', { layers })
    const specs = await Promise.all(
      [1, 2, 3].map(async () => ({ ...(await specOf(programs.serves)), image })),
    )
    await Promise.all(specs.map((spec) => launch(spec)))
    expect((await agent().runtime.list()).map(({ state }) => state)).toEqual(
      Array(3).fill('running'),
    )
    await Promise.all(specs.map(({ id }) => agent().runtime.remove(id)))
    for (const { id } of specs) {
      expect(existsSync(`/run/netns/roost-${id}`)).toBe(false)
      expect(existsSync(join('/sys/fs/cgroup/memory', host().cgroupParent, id))).toBe(false)
      expect(existsSync(join(host().runDir, 'machines', id))).toBe(false)
    }
  })

  test('output without end neither blocks the machine nor fills the file system', async () => {
    const spec = await launch(
      await specOf([
        'sh',
        '-c',
        '/bin/busybox yes "a line of a hundred and some more characters to make it a longer one than this, and still longer" | /bin/busybox head -n 200000; echo done',
      ]),
    )
    await said(spec.id, 'done')
    const { size, blocks } = statSync(agent().logs.file(spec.id))
    expect(size).toBeGreaterThan(15_000_000)
    expect(blocks * 512).toBeLessThan(4_000_000)
  })
})

const NEVER = new AbortController().signal
const GC_ROOT = { 'containerd.io/gc.root': 'x' }

function filesWith(folder: string, text: string): string[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name)
    if (entry.isDirectory()) return entry.name === 'rootfs' ? [] : filesWith(path, text)
    return entry.isFile() && readFileSync(path).includes(text) ? [path] : []
  })
}
