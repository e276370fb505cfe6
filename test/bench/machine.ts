import { readFileSync } from 'node:fs'
import { Agent, request } from 'undici'
import { run } from '../e2e/terminal.ts'
import type { Bench } from './main.ts'
import { interleaved, median, type Report, timed } from './yardstick.ts'

const ROUNDS = 15
const HUNDRED = 100

/** Create → started through the API, against `ctr run -d` on the same containerd; and a hundred at once. */
export async function measureMachines(report: Report, bench: Bench): Promise<void> {
  const first = bench.playground.regions[0]
  const socket = `/run/roost/${bench.name}/${first?.code}/containerd.sock`
  const { machines } = await bench.json(['status', '-a', 'chat'])
  const image = machines[0]?.image ?? ''
  const dispatcher = new Agent({ connect: { rejectUnauthorized: false }, connections: 64 })
  const call = async (method: 'GET' | 'POST' | 'DELETE', path: string, body?: object) => {
    const reply = await request(`${bench.playground.server}/v1${path}`, {
      method,
      dispatcher,
      headers: {
        authorization: `Bearer ${bench.token}`,
        ...(body ? { 'content-type': 'application/json' } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const text = await reply.body.text()
    if (reply.statusCode > 299) throw new Error(`${method} ${path}: ${reply.statusCode} ${text}`)
    return text === '' ? {} : (JSON.parse(text) as { id: string })
  }
  await call('POST', '/apps', { app_name: 'bench-machines', org_slug: 'personal' })
  const create = async (): Promise<number> => {
    const start = performance.now()
    const machine = (await call('POST', '/apps/bench-machines/machines', {
      region: first?.code,
      config: {
        image,
        init: { exec: ['/bin/sleep', '1000'] },
        guest: { cpu_kind: 'shared', cpus: 1, memory_mb: 64 },
      },
    })) as { id: string }
    await call('GET', `/apps/bench-machines/machines/${machine.id}/wait?state=started&timeout=60`)
    return performance.now() - start
  }
  try {
    const { ours, yardstick } = await interleaved(ROUNDS, create, () => ctrRun(socket, image))
    report.compare({
      name: 'create → started through the API',
      ours,
      yardstick,
      unit: 'ms',
      against: 'ctr run -d',
      goal: { kind: 'at-most', ratio: 1.5 },
    })
    const each: number[] = []
    const total = await timed(() =>
      Promise.all(Array.from({ length: HUNDRED }, async () => each.push(await create()))),
    )
    report.figure('100 machines at once through the API, all started', total / 1000, 's')
    report.figure('  median of one of them', median(each), 'ms')
    report.figure('  per machine', total / HUNDRED, 'ms')
  } finally {
    await removeCtr(socket)
    await call('DELETE', '/apps/bench-machines?force=true')
    await dispatcher.close()
  }
}

/** The yardstick: what a person would type for a container that keeps running, without a network of its own. */
async function ctrRun(socket: string, image: string): Promise<number> {
  const name = `ctr-bench-${Math.round(performance.now() * 1000)}`
  return timed(async () => {
    const ran = await run([
      'ctr',
      '-a',
      socket,
      '-n',
      'roost',
      'run',
      '-d',
      '--cgroup',
      `/roost/ctr-bench/${name}`,
      image,
      name,
      '/bin/sleep',
      '1000',
    ])
    if (ran.code !== 0) throw new Error(`ctr run: ${ran.stderr}`)
  })
}

async function removeCtr(socket: string): Promise<void> {
  const listed = await run(['ctr', '-a', socket, '-n', 'roost', 'containers', 'ls', '-q'])
  for (const name of listed.stdout.split('\n').filter((line) => line.startsWith('ctr-bench-'))) {
    await run(['ctr', '-a', socket, '-n', 'roost', 'tasks', 'rm', '-f', name])
    await run(['ctr', '-a', socket, '-n', 'roost', 'containers', 'rm', name])
  }
  for (const controller of readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .map((line) => line.split(' '))
    .filter((f) => f[2] === 'cgroup')
    .map((f) => f[1])) {
    await run(['find', `${controller}/roost/ctr-bench`, '-depth', '-type', 'd', '-delete'])
  }
}
