import { silentLogger, systemClock } from '@roost/base'
import {
  type AppName,
  type Assignment,
  type ContainerConfig,
  firstAssignment,
  type HostId,
  type InstanceId,
  type MachineConfig,
  type RegionCode,
} from '@roost/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createProbeChecks } from '../check/probe-checks.ts'
import { createContainerProbe } from '../check/probe-container.ts'
import {
  busyboxLayers,
  eventually,
  newMachineId,
  raiseTrialHost,
  type TrialHost,
} from '../containerd/trial-host.ts'
import { conformanceConfig, conformanceContainer } from '../runtime.conformance.ts'
import { createMachineKeeper } from './keep-machines.ts'
import { openRecordStore } from './record-store.ts'

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

async function wanted(
  containers: readonly ContainerConfig[],
  change: Partial<MachineConfig> = {},
): Promise<Assignment> {
  const image = await host().push('registry.internal/trial', { layers: busyboxLayers() })
  const id = newMachineId()
  const config = conformanceConfig({ image: 'registry.internal/trial:1', containers, ...change })
  return {
    ...firstAssignment({
      id,
      name: 'quiet-sun-1',
      app: 'shop' as AppName,
      host: 'h1' as HostId,
      region: 'ams' as RegionCode,
      instanceId: `01${id.toUpperCase()}` as InstanceId,
      config,
      imageDigest: image.digest,
      privateIpv4: `10.210.4.${2 + slots.next++}`,
      privateIpv6: `fdaa:0:1:1:${id.slice(2, 6)}:${id.slice(6, 10)}:${id.slice(10)}:2`,
      sealedSecrets: 'sealed',
      primaryRegion: null,
      launch: true,
      cordoned: false,
    }),
    containerDigests: Object.fromEntries(containers.map(({ name }) => [name, image.digest])),
  }
}
const part = (name: string, script: string, change: Partial<ContainerConfig> = {}) =>
  conformanceContainer(
    { name, program: 'serves' },
    { image: 'registry.internal/trial:1', exec: ['sh', '-c', script], ...change },
  )
const SERVES = 'trap "exit 0" TERM; while :; do sleep 0.05; done'

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
