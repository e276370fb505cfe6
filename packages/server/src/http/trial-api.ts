import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type AcmeSettings, type ErrorReply, type MachineReply, machineReply } from '@roost/api'
import { PlatformError, silentLogger } from '@roost/base'
import { ADMIN, type AppName, deployRole, type HostId, type MachineStatus } from '@roost/core'
import { insertToken } from '../access/tokens.ts'
import { type ControlPlane, createControlPlane, type Deps, memoryDeps } from '../control-plane.ts'
import { createSteppedClock, type SteppedClock } from '../laps/simulated-hosts.ts'
import { openMasterKey } from '../secret/master-key.ts'
import { createSecrets } from '../secret/secrets.ts'
import { createApiListener } from './server.ts'
import { trialHost } from './trial-host.ts'

export type TrialMethod = 'GET' | 'POST' | 'PUT' | 'DELETE'

/** Whoever reads more of a body than an error's words says what it is. */
export interface TrialReply<Body = ErrorReply> {
  readonly status: number
  readonly body: Body
}

/** The whole HTTP API in memory, with two hosts in ams and one in fra, an app `shop`, and time that stands still. */
export interface TrialApi {
  readonly clock: SteppedClock
  readonly deps: Deps
  readonly control: ControlPlane
  /** What the hosts' agents were asked: method, path and body. */
  readonly asked: { readonly method: string; readonly path: string; readonly body: unknown }[]
  /** When set, no agent answers. */
  silent: boolean
  call<Body = ErrorReply>(
    method: TrialMethod,
    url: string,
    body?: unknown,
    headers?: Readonly<Record<string, string>>,
  ): Promise<TrialReply<Body>>
  launch(input?: Record<string, unknown>): Promise<MachineReply>
  /** What an honest host would say of a machine. */
  say(id: string, state: MachineStatus['state'], change?: Partial<MachineStatus>): Promise<void>
  close(): Promise<void>
}

const START = Date.UTC(2026, 0, 1)

export async function openTrialApi(
  options: { readonly acme?: AcmeSettings; readonly lookUpName?: Deps['lookUpName'] } = {},
): Promise<TrialApi> {
  const folder = mkdtempSync(join(tmpdir(), 'roost-trial-api-'))
  const clock = createSteppedClock(START)
  const asked: TrialApi['asked'] = []
  const deps = memoryDeps({
    clock,
    change: {
      secrets: createSecrets(await openMasterKey(join(folder, 'master.key'))),
      ...(options.lookUpName === undefined ? {} : { lookUpName: options.lookUpName }),
      agent: () => ({
        async json<T>(method: string, path: string, body?: unknown): Promise<T> {
          if (trial.silent) throw new PlatformError('unavailable', 'no answer', { retry: 'later' })
          asked.push({ method, path, body })
          return { ok: true } as T
        },
        async *lines() {},
        close: async () => {},
      }),
    },
  })
  const control = createControlPlane(deps)
  await control.prepare({
    domain: 'roost.test',
    clientNetworks: [],
    registry: { name: 'registry.internal', url: 'https://10.210.4.1:5000' },
    acme: options.acme ?? null,
  })
  await deps.store.transaction(async (tx) => {
    await insertToken(tx, 'admin', { name: 'administrator', policy: ADMIN }, START)
    await insertToken(tx, 'shop', { name: 'ci', policy: deployRole('shop' as AppName) }, START)
  })
  const places: [name: string, region: string][] = [
    ['ams-1', 'ams'],
    ['ams-2', 'ams'],
    ['fra-1', 'fra'],
  ]
  for (const [n, [name, region]] of places.entries())
    await control.addHost(
      trialHost(name, {
        region,
        public_address: `192.0.2.${n + 1}`,
        cpus: 4,
        memory_mb: 2048,
        builder: true,
      }),
    )
  const listener = createApiListener({ ...deps, log: silentLogger }, control.handlers)
  await listener.app.ready()
  let sequence = 0

  const trial: TrialApi = {
    clock,
    deps,
    control,
    asked,
    silent: false,

    async call(method, url, body, headers = {}) {
      const reply = await listener.app.inject({
        method,
        url,
        headers: {
          authorization: 'Bearer admin',
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          ...headers,
        },
        ...(body === undefined ? {} : { payload: JSON.stringify(body) }),
      })
      const isJson = String(reply.headers['content-type']).includes('json')
      const said = reply.body === '' ? null : isJson ? reply.json() : reply.body
      return { status: reply.statusCode, body: said }
    },

    async launch(input = {}) {
      const { status, body } = await trial.call('POST', '/v1/apps/shop/machines', {
        config: { image: 'registry.internal/shop:v1' },
        region: 'ams',
        ...input,
      })
      if (status !== 200) throw new Error(`launch: ${status} ${JSON.stringify(body)}`)
      return machineReply.parse(body)
    },

    async say(id, state, change = {}) {
      const row = await deps.store.read(({ db }) =>
        db.selectFrom('machines').selectAll().where('id', '=', id).executeTakeFirstOrThrow(),
      )
      const { generation, configGeneration, instanceId } = JSON.parse(row.assignment)
      sequence++
      const now = clock.now()
      await control.report(row.host as HostId, [
        {
          id: id as MachineStatus['id'],
          host: row.host as HostId,
          state,
          generation,
          configGeneration,
          instanceId,
          sequence,
          startedAt: state === 'started' ? now : null,
          updatedAt: now,
          exit: null,
          reason: null,
          restartCount: 0,
          checks: [],
          ...change,
        },
      ])
    },

    async close() {
      await listener.close(0)
      await deps.store.close()
      rmSync(folder, { recursive: true, force: true })
    },
  }
  await trial.call('POST', '/v1/apps', { app_name: 'shop' })
  return trial
}
