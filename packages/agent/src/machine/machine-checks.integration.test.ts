import { silentLogger, systemClock } from '@roost/base'
import type { ContainerConfig, ContainerHealthcheck, HostId, MachineConfig } from '@roost/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createProbeChecks } from '../check/probe-checks.ts'
import { createContainerProbe } from '../check/probe-container.ts'
import { eventually, raiseTrialHost, type TrialHost } from '../containerd/trial-host.ts'
import { createMachineKeeper } from './keep-machines.ts'
import { openRecordStore } from './record-store.ts'
import { containersAssignment, part, SERVES } from './trial-containers.ts'

/** Machines of several containers on a real containerd, from their configuration to their end. */

const NEVER = new AbortController().signal
const trial: { host: TrialHost | null } = { host: null }
const host = () => trial.host as TrialHost
const slots = { next: 0 }

beforeAll(async () => {
  trial.host = await raiseTrialHost()
})
afterAll(async () => {
  await trial.host?.close()
})

async function startAgent(secrets: Record<string, string> = {}) {
  const agent = await host().openAgent()
  const store = openRecordStore({ file: ':memory:', log: silentLogger })
  const { runtime, network } = agent
  const keeper = createMachineKeeper({
    runtime,
    checks: createProbeChecks({
      clock: systemClock,
      probeContainer: createContainerProbe({
        exec: (id, request, signal) => runtime.exec(id, request, signal),
        netnsPath: (id) => network.netnsPath(id),
      }),
    }),
    clock: systemClock,
    log: silentLogger,
    store,
    host: { id: 'h1' as HostId },
    unseal: async () => secrets,
    onStatus: () => {},
  })
  return {
    ...agent,
    keeper,
    async die() {
      await keeper.stop()
      store.close()
      await agent.close()
    },
  }
}

const wanted = (containers: readonly ContainerConfig[], change: Partial<MachineConfig> = {}) =>
  containersAssignment(host(), slots.next++, { containers, ...change })

test('order, health, shared folders, secret files, logs told apart, and one restarts without the other', async () => {
  const agent = await startAgent({ KEY: Buffer.from('the key\n').toString('base64'), OTHER: 'o' })
  const check = {
    name: 'up',
    interval_ms: 1000,
    timeout_ms: 1000,
    grace_period_ms: 0,
    success_threshold: 1,
    failure_threshold: 3,
    kind: 'readiness',
  } as const
  const mounts = [{ name: 'shared', path: '/shared' }]
  const assignment = await wanted(
    [
      part('app', `cat /shared/made /etc/app/key; echo "other=$OTHER id=$ID"; ${SERVES}`, {
        depends_on: [{ name: 'db', condition: 'healthy' }],
        mounts,
        files: [{ guest_path: '/etc/app/key', secret_name: 'KEY', mode: 0o400 }],
        secrets: [],
        env_from: [{ env_var: 'ID', field_ref: 'id' }],
      }),
      part(
        'db',
        `trap "exit 0" TERM; echo listening; while :; do nc -l -p 7777 127.0.0.1 </dev/null; [ -e /die ] && exit 5; done`,
        {
          depends_on: [{ name: 'init', condition: 'exited_successfully' }],
          mounts,
          healthchecks: [{ ...check, exec: { command: ['cat', '/shared/made'] } }],
        },
      ),
      part('init', 'echo "made by init" > /shared/made; echo done', {
        mounts,
        restart: { policy: 'no', max_retries: 0 },
      }),
    ],
    {
      restart: { policy: 'always', max_retries: 0 },
      volumes: [{ name: 'shared', temp_dir: { storage_type: 'disk', size_mb: 16 } }],
    },
  )
  const { id } = assignment
  try {
    agent.keeper.setAssignments([assignment])
    await eventually(async () => {
      const [status] = agent.keeper.statuses()
      expect(status).toMatchObject({
        state: 'started',
        containers: [
          { name: 'app', state: 'started' },
          { name: 'db', state: 'started' },
          { name: 'init', state: 'stopped' },
        ],
        checks: [{ name: 'db/up', status: 'passing', kind: 'readiness' }],
      })
    }, 25_000)
    const said = async (container: string) => {
      const lines: string[] = []
      const asked = { machine: id, container, lines: 100, follow: false, signal: NEVER }
      for await (const line of agent.logs.readLogs(asked)) if (line) lines.push(line.message)
      return lines
    }
    await eventually(async () =>
      expect(await said('app')).toEqual(['made by init', 'the key', `other= id=${id}`]),
    )
    expect(await said('init')).toEqual(['done'])
    const before = await agent.runtime.look(id)
    const running = (await agent.runtime.runs()).find((run) => run.id === `${id}.db`)
    process.kill(running?.pid ?? 0, 'SIGKILL')
    await eventually(async () => {
      const after = await agent.runtime.look(id)
      expect(after?.containers?.[1]?.state).toBe('running')
      expect(after?.containers?.[1]?.startedAt).not.toBe(before?.containers?.[1]?.startedAt)
      expect(after?.containers?.[0]).toEqual(before?.containers?.[0])
      expect(after?.startedAt).toBe(before?.startedAt)
    }, 25_000)
    agent.keeper.setAssignments([])
    await eventually(async () => expect(await agent.runtime.look(id)).toBeNull(), 25_000)
  } finally {
    await agent.die()
  }
})

test('a check with unhealthy: stop stops the machine, with the reason', async () => {
  const agent = await startAgent()
  const live = {
    name: 'live',
    interval_ms: 1000,
    timeout_ms: 1000,
    grace_period_ms: 0,
    success_threshold: 1,
    failure_threshold: 1,
    kind: 'liveness',
    unhealthy: 'stop',
    exec: { command: ['false'] },
  } as const
  const assignment = await wanted([
    part('app', SERVES, { healthchecks: [live] }),
    part('log', SERVES),
  ])
  try {
    agent.keeper.setAssignments([assignment])
    await eventually(async () => {
      expect(agent.keeper.statuses()[0]).toMatchObject({
        state: 'stopped',
        reason: 'container app was ended: its check "live" failed; its restart policy is "no"',
        exit: { code: 1, container: 'app', requested: false },
      })
    }, 25_000)
    const shown = await agent.runtime.look(assignment.id)
    expect(shown?.containers?.map(({ state }) => state)).toEqual(['exited', 'exited'])
    agent.keeper.setAssignments([])
    await eventually(async () => expect(await agent.runtime.look(assignment.id)).toBeNull(), 25_000)
  } finally {
    await agent.die()
  }
})

test('http and tcp look at what listens on localhost alone; one that fails is told, one that lives no more starts again', async () => {
  const agent = await startAgent()
  const check = {
    interval_ms: 1000,
    timeout_ms: 1000,
    grace_period_ms: 0,
    success_threshold: 1,
    failure_threshold: 1,
  }
  const ready: ContainerHealthcheck = {
    ...check,
    name: 'page',
    kind: 'readiness',
    http: { port: 8080, method: 'GET', path: '/page', headers: [], scheme: 'http' },
  }
  const alive: ContainerHealthcheck = {
    ...check,
    name: 'port',
    kind: 'liveness',
    failure_threshold: 2,
    tcp: { port: 9090 },
  }
  const assignment = await wanted(
    [
      part(
        'web',
        'echo hi > /hi; /bin/busybox mkdir /www; exec httpd -f -p 127.0.0.1:8080 -h /www',
        {
          healthchecks: [ready],
          depends_on: [{ name: 'db', condition: 'healthy' }],
          restart: { policy: 'always', max_retries: 0 },
        },
      ),
      // It listens, until it is told not to; its process goes on.
      part(
        'db',
        '(while [ ! -e /deaf ]; do nc -l -p 9090 127.0.0.1 </dev/null; done) & while :; do sleep 0.05; done',
        { healthchecks: [alive], restart: { policy: 'always', max_retries: 0 } },
      ),
    ],
    { restart: { policy: 'always', max_retries: 0 } },
  )
  const { id } = assignment
  const inside = async (container: string, script: string) => {
    const command = ['sh', '-c', script]
    const asked = { container, command, timeoutMs: 10_000 }
    return (await agent.runtime.exec(id, asked, NEVER)).stdout.toString()
  }
  const status = (container: string, name: string) =>
    agent.keeper.statuses()[0]?.checks.find((one) => one.name === `${container}/${name}`)
  const is = (container: string, name: string, expected: object) =>
    eventually(async () => expect(status(container, name)).toMatchObject(expected), 25_000)
  try {
    agent.keeper.setAssignments([assignment])
    await is('db', 'port', { status: 'passing' })
    await is('web', 'page', { status: 'critical' })
    await inside('web', 'cat /hi > /www/page')
    await is('web', 'page', { status: 'passing' })
    // By its name, as in docker compose.
    expect(await inside('db', 'wget -q -O - http://web:8080/page')).toBe('hi\n')

    // It listens on, and does not answer with 2xx.
    await inside('web', '/bin/busybox rm /www/page')
    await is('web', 'page', { status: 'critical', output: expect.stringContaining('404') })

    const started = async () => (await agent.runtime.look(id))?.containers?.map((c) => c.startedAt)
    const [webBefore, dbBefore] = (await started()) ?? []
    await inside('db', ': > /deaf; nc 127.0.0.1 9090 < /dev/null')
    await eventually(async () => {
      const [web, db] = (await started()) ?? []
      expect(db).toBeGreaterThan(dbBefore ?? Number.POSITIVE_INFINITY)
      expect(web).toBe(webBefore)
    }, 25_000)
    await is('db', 'port', { status: 'passing' })
    agent.keeper.setAssignments([])
    await eventually(async () => expect(await agent.runtime.look(id)).toBeNull(), 25_000)
  } finally {
    await agent.die()
  }
})
