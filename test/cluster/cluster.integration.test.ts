import { spawn } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { playgroundDown } from '../../packages/cli/src/playground/down.ts'
import {
  faultCut,
  faultHeal,
  faultKillProgram,
  faultKillRegion,
  faultRestoreRegion,
} from '../../packages/cli/src/playground/fault.ts'
import { playgroundStatus } from '../../packages/cli/src/playground/status.ts'
import { playgroundUp } from '../../packages/cli/src/playground/up.ts'
import { type Cluster, inNamespace, raiseCluster, traces } from './cluster.ts'

const NAME = 'cluster'
const NETWORK = '100.125'
const OTHER_NETWORK = '100.126'
const REGIONS = ['ams', 'iad']

async function pidOf(region: string, program: string): Promise<number | null> {
  const status = await playgroundStatus(NAME)
  const programs = status.regions.find(({ code }) => code === region)?.programs ?? []
  return programs.find(({ name }) => name === program)?.pid ?? null
}

/** Of the server, by its own API. */
async function hostStates(cluster: Cluster): Promise<string[]> {
  const token = readFileSync(cluster.status.token_file, 'utf8').trim()
  const { stdout } = await inNamespace('cluster-ams', [
    ...['curl', '-s', '-m', '3', '--cacert', cluster.status.ca_file],
    ...['-H', `Authorization: Bearer ${token}`, `${cluster.status.server}/api/v1/hosts`],
  ])
  return (JSON.parse(stdout) as { name: string; status: string }[])
    .map(({ name, status }) => `${name} ${status}`)
    .sort()
}

describe('two simulated hosts', () => {
  let cluster: Cluster
  beforeAll(async () => {
    cluster = await raiseCluster({ name: NAME, regions: REGIONS, network: NETWORK })
  })
  afterAll(async () => {
    await playgroundDown(NAME)
  })

  test('everything that is asked for runs, each program in the namespace of its host', async () => {
    const names = async () =>
      (await playgroundStatus(NAME)).regions.map(({ programs }) => [
        ...new Set(programs.map((p) => p.name)),
      ])
    // An edge starts its HAProxy once it has heard what there is.
    await expect.poll(names, { timeout: 10_000 }).toEqual([
      ['agent', 'containerd', 'edge', 'registry', 'server', 'haproxy', 'wireguard-go'],
      ['agent', 'containerd', 'edge', 'haproxy', 'wireguard-go'],
    ])
    const status = await playgroundStatus(NAME)
    for (const region of status.regions)
      for (const { pid, since } of region.programs) {
        const space = statSync(`/run/netns/${region.host_ns}`).ino
        expect(statSync(`/proc/${pid}/ns/net`).ino).toBe(space)
        expect(Math.abs(Date.now() - Date.parse(since ?? ''))).toBeLessThan(600_000)
      }
    expect(statSync(status.token_file).mode & 0o777).toBe(0o600)
    expect(await hostStates(cluster)).toEqual(['ams ok', 'iad ok'])
  })

  test('clients resolve the domain through the edges, and no other name breaks that', async () => {
    for (const region of cluster.status.regions) {
      const { stdout } = await inNamespace(region.client_ns, [
        ...['dig', '+short', '+tries=3', '+time=2', `@${cluster.status.dns}`],
        cluster.status.domain,
        'SOA',
      ])
      expect(stdout).toContain(cluster.status.domain)
    }
  })

  test('a second one of the same name is refused', async () => {
    await expect(
      playgroundUp({ name: NAME, regions: REGIONS, network: NETWORK, saveContext: false }),
    ).rejects.toThrow('the playground cluster is up already')
  })

  test('a program that is killed is started again', async () => {
    const before = await pidOf('iad', 'edge')
    await faultKillProgram('edge', 'iad', NAME)
    await expect
      .poll(() => pidOf('iad', 'edge'), { timeout: 10_000 })
      .toSatisfy((pid) => pid !== null && pid !== before)
  })

  test('what can not be killed is named, with what can', async () => {
    await expect(faultKillProgram('nginx', 'ams', NAME)).rejects.toThrow(
      'no program is called nginx',
    )
    await expect(faultKillProgram('server', 'iad', NAME)).rejects.toThrow('does not run in iad')
    await expect(faultKillProgram('edge', undefined, NAME)).rejects.toThrow('in which region')
    await expect(faultKillRegion('fra', NAME)).rejects.toThrow('no region fra')
    await expect(faultRestoreRegion('iad', NAME)).rejects.toThrow('iad is not dead')
  })

  // Most of it is the time after which the server believes in it: the next one goes on meanwhile.
  test.concurrent('a partition is noticed by the server and passes', async ({ expect }) => {
    await faultCut('ams', 'iad', NAME)
    await expect
      .poll(() => hostStates(cluster), { timeout: 20_000 })
      .toEqual(['ams ok', 'iad unreachable'])
    await faultHeal('ams', 'iad', NAME)
    await expect.poll(() => hostStates(cluster), { timeout: 20_000 }).toEqual(['ams ok', 'iad ok'])
  })

  test.concurrent('an `up` that was killed half-way leaves nothing after `down`, and the next one works', async ({
    expect,
  }) => {
    const script = `
      const { playgroundUp } = await import(${JSON.stringify(join(import.meta.dirname, '../../packages/cli/src/playground/up.ts'))})
      await playgroundUp({ name: 'half', network: '${OTHER_NETWORK}', regions: ['ams', 'iad'], seed: false, saveContext: false,
        onProgress: (who, what) => { if (what === 'starting the server') process.kill(process.pid, 'SIGKILL') } })`
    const killed = spawn(process.execPath, ['--input-type=module', '-e', script], {
      stdio: 'ignore',
    })
    await new Promise((resolve) => killed.on('close', resolve))
    expect(killed.signalCode).toBe('SIGKILL')
    expect((await traces('half')).length).toBeGreaterThan(3)
    await expect(playgroundStatus('half')).rejects.toThrow('only half up')
    await playgroundDown('half')
    expect(await traces('half')).toEqual([])
    expect(existsSync('/var/lib/roost/playground/half')).toBe(false)
  })

  test('a region that lost its power has no process, and all of them when it is back', async () => {
    await faultKillRegion('iad', NAME)
    const dead = (await playgroundStatus(NAME)).regions.find(({ code }) => code === 'iad')
    expect(dead).toMatchObject({ power: 'off', programs: [] })
    expect(
      (await traces(NAME)).filter((trace) => trace.includes('cluster/iad')),
    ).not.toContainEqual(expect.stringMatching(/^process/))
    await faultRestoreRegion('iad', NAME)
    await expect.poll(() => hostStates(cluster), { timeout: 30_000 }).toEqual(['ams ok', 'iad ok'])
  })

  test('down leaves nothing, whatever was killed before, and may be repeated', async () => {
    expect((await traces(NAME)).length).toBeGreaterThan(20)
    const { keepers } = keeperPids()
    for (const pid of keepers) process.kill(pid, 'SIGKILL')
    await faultKillProgram('containerd', 'ams', NAME)
    await cluster.down()
    expect(await traces(NAME)).toEqual([])
    await cluster.down()
    expect(await traces(NAME)).toEqual([])
  })

  function keeperPids() {
    const folder = `/run/roost/${NAME}/ams/pid`
    const read = (name: string) => Number(readFileSync(join(folder, `${name}.keeper`), 'utf8'))
    return { keepers: ['agent', 'edge'].map(read) }
  }
})
