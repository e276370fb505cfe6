import { type ChildProcess, spawn } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import { createPeerClient, openMessageSocket, silentLogger, systemClock } from '@roost/base'
import {
  ADMIN,
  type AppName,
  deployRole,
  type HostId,
  type MachineId,
  READ_ONLY,
} from '@roost/core'
import { listeningIn } from '../../packages/agent/src/check/listening-in.ts'
import { openCgroups } from '../../packages/agent/src/containerd/cgroup.ts'
import {
  busyboxLayers,
  raiseTrialHost,
  type TrialAgent,
  type TrialHost,
} from '../../packages/agent/src/containerd/trial-host.ts'
import { processesOf } from '../../packages/agent/src/exec/processes.ts'
import { registerAccessRoutes } from '../../packages/agent/src/rpc/access-routes.ts'
import { createAgentListener } from '../../packages/agent/src/rpc/listener.ts'
import type { CliContext, Screen } from '../../packages/cli/src/cli-context.ts'
import { runCli } from '../../packages/cli/src/run-cli.ts'
import { insertToken } from '../../packages/server/src/access/tokens.ts'
import { createControlPlane, memoryDeps } from '../../packages/server/src/control-plane.ts'
import { createApiListener } from '../../packages/server/src/http/server.ts'
import { getMachine } from '../../packages/server/src/store/machines.ts'

/** A real containerd, an agent's and a server's listener and the command line, all in this process. */
export interface AccessRig {
  readonly host: TrialHost
  readonly machine: MachineId
  /** As `roost …` at a terminal of its own. */
  person(options?: PersonOptions): Person
  /** The same as a process of its own. */
  process(...argv: string[]): ChildProcess
  /** Ends the agent as if it were killed, but for what the kernel would close; another takes its place. */
  restartAgent(): Promise<void>
  stopServer(): Promise<void>
  startServer(): Promise<void>
  /** Processes of the machine beside its own. */
  strangers(): readonly string[]
  /** Directories of programs that were started in machines. */
  traces(): readonly string[]
  close(): Promise<void>
}

export interface PersonOptions {
  readonly token?: string
  /** A terminal of this size. */
  readonly terminal?: { columns: number; rows: number }
  readonly cwd?: string
}

export interface Person {
  readonly stdin: PassThrough
  readonly out: () => Buffer
  readonly err: () => string
  run(...argv: string[]): Promise<number>
  resize(columns: number, rows: number): void
  interrupt(): void
}

const MAIN = join(import.meta.dirname, '../../packages/cli/src/main.ts')
const NEVER = new AbortController().signal
const clock = systemClock
const log = silentLogger

interface RigOptions {
  /** Of these the machine has one each, that says its name. Absent: it is one program itself. */
  readonly containers?: readonly string[]
}

export async function raiseAccess(options: RigOptions = {}): Promise<AccessRig> {
  const host = await raiseTrialHost()
  try {
    return await raiseOn(host, options)
  } catch (error) {
    await host.close()
    throw error
  }
}

async function raiseOn(host: TrialHost, { containers = [] }: RigOptions): Promise<AccessRig> {
  const state = {
    agent: null as TrialAgent | null,
    rpc: null as ReturnType<typeof createAgentListener> | null,
    rpcUrl: '',
    api: null as ReturnType<typeof createApiListener> | null,
    apiPort: 0,
  }
  const ipv4 = '10.210.4.2'

  async function startAgent(): Promise<void> {
    const agent = await host.openAgent()
    const rpc = createAgentListener({ logs: agent.logs, health: async () => ({}), clock, log })
    const cgroups = openCgroups()
    registerAccessRoutes(rpc.app, {
      runtime: agent.runtime,
      addresses: () => [ipv4],
      listening: (id) => listeningIn(agent.network.netnsPath(id)),
      processes: (id) => processesOf(cgroups.processes(`${host.cgroupParent}/${id}`)),
      region: 'ams',
      log,
    })
    const [at] = await rpc.listen([{ address: '127.0.0.1', port: 0 }])
    Object.assign(state, { agent, rpc, rpcUrl: `http://127.0.0.1:${at?.port}` })
  }
  await startAgent()

  const deps = memoryDeps({
    clock,
    change: {
      agent: () =>
        createPeerClient({
          url: state.rpcUrl,
          tls: { ca: '', certificate: '', key: '' },
          expect: 'roost://agent/trial',
        }),
      agentSocket: (_host, path, signal) => openMessageSocket(`${state.rpcUrl}${path}`, { signal }),
    },
  })
  const control = createControlPlane(deps)
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
  })
  await deps.store.transaction(async (tx) => {
    const now = clock.now()
    await insertToken(tx, 'admin', { name: 'administrator', policy: ADMIN }, now)
    await insertToken(tx, 'ci', { name: 'ci', policy: deployRole('shop' as AppName) }, now)
    await insertToken(tx, 'looks', { name: 'looks', policy: READ_ONLY }, now)
  })
  const startServer = async () => {
    state.api = createApiListener({ ...deps, log }, control.handlers)
    const [at] = await state.api.listen([{ address: '127.0.0.1', port: state.apiPort }])
    state.apiPort = at?.port ?? 0
  }
  await startServer()
  const agent = state.agent as unknown as TrialAgent
  const machine = await launch(host, agent, control, deps, ipv4, containers)

  const others = () => {
    const pids = openCgroups().processes(`${host.cgroupParent}/${machine}`)
    return pids.flatMap((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').join(' ').trim()
        return words === '' ||
          words.includes('main-program') ||
          /^(sleep 0\.2|httpd .*)$/.test(words)
          ? []
          : [words]
      } catch {
        return []
      }
    })
  }
  const stopAgent = async () => {
    await state.rpc?.close(0)
    await state.agent?.close()
  }
  return {
    host,
    machine,
    person: (options = {}) => person(() => state.apiPort, options),
    process: (...argv) =>
      spawn(process.execPath, [MAIN, ...argv], {
        stdio: 'pipe',
        env: {
          ...process.env,
          HOME: host.dir,
          ROOST_API_URL: `http://127.0.0.1:${state.apiPort}`,
          ROOST_API_TOKEN: 'admin',
          ROOST_APP: 'shop',
        },
      }),
    async restartAgent() {
      await stopAgent()
      await startAgent()
    },
    stopServer: async () => state.api?.close(0),
    startServer,
    strangers: others,
    traces: () => readdirSync(join(host.runDir, 'exec')),
    async close() {
      await state.api?.close(0)
      await stopAgent()
      await deps.store.close()
      await host.close()
    },
  }
}

/** An app with one machine, as the server knows it and as it runs. */
async function launch(
  host: TrialHost,
  agent: TrialAgent,
  control: ReturnType<typeof createControlPlane>,
  deps: ReturnType<typeof memoryDeps>,
  ipv4: string,
  containers: readonly string[],
): Promise<MachineId> {
  const { id: hostId } = await control.addHost({
    name: 'trial',
    region: 'ams' as never,
    public_address: '198.51.100.1',
    wireguard: {
      endpoint: '198.51.100.1:51820',
      public_key: Buffer.alloc(32, 1).toString('base64'),
    },
    sealing_key: Buffer.alloc(32, 2).toString('base64'),
    cpus: 8,
    memory_mb: 8192,
    builder: false,
  })
  await control.call('createApp', { body: { app_name: 'shop', org_slug: 'personal' } })
  const exec = [
    'sh',
    '-c',
    'echo ready main-program; httpd -p 8080 -h /home/app; trap "" INT; while :; do sleep 0.2; done # main-program',
  ]
  const made = (await control.call('createMachine', {
    params: { app: 'shop' },
    body: {
      region: 'ams',
      config: {
        image: 'registry.internal/trial:1',
        guest: { cpus: 1, memory_mb: 512 },
        ...(containers.length === 0
          ? { init: { exec } }
          : { containers: containers.map(container) }),
      },
    },
  })) as { id: MachineId }
  const image = await host.push('trial', { layers: busyboxLayers(TOOLS) })
  const { id } = made
  const stored = await deps.store.read((reader) => getMachine(reader, id))
  if (stored === null) throw new Error('it was not stored')
  const { assignment } = stored
  await agent.runtime.pull(image, NEVER)
  await agent.runtime.create(
    {
      id,
      stamp: '1:1',
      image,
      ...(containers.length === 0
        ? {}
        : { containerImages: Object.fromEntries(containers.map((name) => [name, image])) }),
      config: assignment.config,
      hostname: id,
      ipv4,
      ipv6: 'fdaa:0:1:1:aaaa:bbbb:cccc:2',
    },
    NEVER,
  )
  await agent.runtime.start(id, { GREETING: "it's set" }, NEVER)
  for (const name of containers)
    await agent.runtime.startContainer(
      id,
      name,
      { environment: { GREETING: `from ${name}` } },
      NEVER,
    )
  const { instanceId, generation, configGeneration } = assignment
  await control.report(hostId as HostId, [
    {
      id,
      host: hostId,
      state: 'started',
      generation,
      instanceId,
      configGeneration,
      sequence: 1,
      startedAt: clock.now(),
      updatedAt: clock.now(),
      exit: null,
      reason: null,
      restartCount: 0,
      checks: [],
    },
  ])
  return id
}

const container = (name: string) => ({
  name,
  image: 'registry.internal/trial:1',
  exec: ['sh', '-c', `echo ${name} > /name; while :; do sleep 0.2; done # main-program`],
})

const TOOLS = [
  'sh',
  'cat',
  'echo',
  'sleep',
  'httpd',
  'wget',
  'id',
  'stty',
  'env',
  'wc',
  'seq',
  'mkdir',
  'ln',
  'true',
  'false',
]

function person(port: () => number, options: PersonOptions): Person {
  const stdin = new PassThrough()
  const interrupted = new AbortController()
  const events = new EventEmitter()
  const written = { out: [] as Buffer[], err: '' }
  const size = { ...options.terminal }
  const screen = (write: (text: string | Uint8Array) => void): Screen => ({
    write: (text) => {
      write(text)
      return true
    },
    isTTY: options.terminal !== undefined,
    get columns() {
      return size.columns ?? 80
    },
    get rows() {
      return size.rows ?? 24
    },
    on: (event, heard) => events.on(event, heard),
    off: (event, heard) => events.off(event, heard),
  })
  const context: CliContext = {
    env: {
      ROOST_API_URL: `http://127.0.0.1:${port()}`,
      ROOST_API_TOKEN: options.token ?? 'admin',
      ROOST_APP: 'shop',
      HOME: '/nonexistent',
      TERM: 'xterm',
    },
    cwd: options.cwd ?? '/',
    stdin: Object.assign(stdin, { isTTY: options.terminal !== undefined, setRawMode: () => {} }),
    stdout: screen((text) => void written.out.push(Buffer.from(text))),
    stderr: screen((text) => {
      written.err += Buffer.from(text).toString('utf8')
    }),
    interrupted: () => interrupted.signal,
  }
  return {
    stdin,
    out: () => Buffer.concat(written.out),
    err: () => written.err,
    run: (...argv) => runCli(argv, context),
    resize(columns, rows) {
      Object.assign(size, { columns, rows })
      events.emit('resize')
    },
    interrupt: () => interrupted.abort(),
  }
}
