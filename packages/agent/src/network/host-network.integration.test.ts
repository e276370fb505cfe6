import { generateKeyPairSync, randomBytes } from 'node:crypto'
import {
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { runCommand, silentLogger, systemClock } from '@roost/base'
import { type Host, hostMeshIpv4, type MachineId, machineIpv4, machineIpv6 } from '@roost/core'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { enterNetns, eventually, newMachineId } from '../containerd/trial-host.ts'
import { HostNetwork } from './host-network.ts'
import type { AttachedMachine } from './ruleset.ts'

/** Two hosts, side by side on one wire. Each of our steps is done in the namespace of one of them. */
interface Side {
  readonly number: number
  readonly netns: string
  readonly underlay: string
  readonly key: { readonly publicKey: string; readonly privateKey: string }
  readonly dir: string
}

const name = `rn${randomBytes(3).toString('hex')}`
const sides: readonly Side[] = [1, 2].map((number) => ({
  number,
  netns: `${name}-${number}`,
  underlay: `198.19.250.${number}`,
  key: wireguardKey(),
  dir: mkdtempSync(join(tmpdir(), `${name}-`)),
}))
const [left, right] = sides as [Side, Side]
const machines: { readonly [name: string]: AttachedMachine & { readonly side: Side } } = {
  a: machine(left, 0, 1),
  b: machine(left, 1, 1),
  stranger: machine(left, 2, 2),
  far: machine(right, 0, 1),
  farStranger: machine(right, 1, 2),
}
const at = (who: string) => machines[who] as AttachedMachine & { readonly side: Side }

function machine(side: Side, slot: number, network: number) {
  const id = newMachineId()
  return { id, ipv4: machineIpv4(side, slot), ipv6: machineIpv6(network, side, id), side }
}

function wireguardKey() {
  const { x, d } = generateKeyPairSync('x25519').privateKey.export({ format: 'jwk' })
  const base64 = (text = '') => Buffer.from(text, 'base64url').toString('base64')
  return { publicKey: base64(x), privateKey: base64(d) }
}

const hosts = sides.map(
  ({ number, underlay, key }) =>
    ({
      number,
      publicAddress: underlay,
      wireguard: { endpoint: `${underlay}:51820`, publicKey: key.publicKey },
    }) as Host,
)
const view = { hosts, networks: [1, 2] }

function networkOf(side: Side): HostNetwork {
  return new HostNetwork({
    hostNumber: side.number,
    wireguard: {
      interface: `w${name}${side.number}`,
      listenPort: 51820,
      privateKeyFile: join(side.dir, 'wireguard.key'),
    },
    uplink: 'eth0',
    nameservers: [],
    runDir: side.dir,
    dataDir: side.dir,
    clock: systemClock,
    log: silentLogger,
  })
}

async function inside<T>(side: Side, work: () => Promise<T>): Promise<T> {
  const leave = enterNetns(side.netns)
  try {
    return await work()
  } finally {
    leave()
  }
}

async function reaches(
  netns: string,
  target: string,
  from?: string,
  seconds = 1,
): Promise<boolean> {
  const source = from === undefined ? [] : ['-I', from]
  try {
    await runCommand([
      'nsenter',
      `--net=/run/netns/${netns}`,
      'ping',
      '-c',
      '1',
      '-W',
      String(seconds),
      '-n',
      ...source,
      target,
    ])
    return true
  } catch {
    return false
  }
}
/** A handshake that found nobody is tried again after 5 s. */
const comesToReach = (netns: string, target: string) =>
  eventually(async () => {
    if (!(await reaches(netns, target))) throw new Error(`${netns} does not reach ${target}`)
  })
const space = (id: MachineId) => `roost-${id}`

beforeAll(async () => {
  for (const { netns } of sides) await runCommand(['ip', 'netns', 'add', netns])
  const peer = ['peer', 'name', 'eth0', 'netns', right.netns]
  await runCommand(['ip', '-n', left.netns, 'link', 'add', 'eth0', 'type', 'veth', ...peer])
  for (const side of sides) {
    writeFileSync(join(side.dir, 'wireguard.key'), side.key.privateKey)
    await runCommand(['ip', '-n', side.netns, '-batch', '-'], {
      input: `addr add ${side.underlay}/24 dev eth0\nlink set eth0 up\nlink set lo up\n`,
    })
    await inside(side, async () => {
      const network = networkOf(side)
      await network.ensure(view)
      for (const one of Object.values(machines).filter((m) => m.side === side))
        await network.attach(one)
    })
  }
})

afterAll(async () => {
  for (const side of sides) {
    await inside(side, async () => {
      const network = networkOf(side)
      for (const id of await network.attached()) await network.detach(id)
      for (const pid of processesHere()) process.kill(pid, 'SIGKILL')
    })
    await runCommand(['ip', 'netns', 'del', side.netns])
    rmSync(side.dir, { recursive: true })
  }
})

function processesHere(): number[] {
  const here = readlinkSync('/proc/self/ns/net')
  return readdirSync('/proc')
    .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
    .map(Number)
    .filter((pid) => {
      try {
        return readlinkSync(`/proc/${pid}/ns/net`) === here
      } catch {
        return false
      }
    })
}

test('machines of one network reach each other, here and over the mesh', async () => {
  expect(await reaches(space(at('a').id), at('b').ipv6)).toBe(true)
  await comesToReach(space(at('a').id), at('far').ipv6)
  expect(await reaches(space(at('far').id), at('b').ipv6)).toBe(true)
})

test('those of another network do not, nor anybody by IPv4, nor a spoofed source', async () => {
  expect(await reaches(space(at('a').id), at('stranger').ipv6)).toBe(false)
  expect(await reaches(space(at('a').id), at('farStranger').ipv6)).toBe(false)
  expect(await reaches(space(at('a').id), at('b').ipv4)).toBe(false)
  expect(await reaches(space(at('a').id), at('far').ipv4)).toBe(false)
  const forged = 'fdaa:0:2:1:1:2:3:2'
  const { id } = at('a')
  await runCommand(['ip', '-n', space(id), 'addr', 'add', `${forged}/128`, 'dev', 'eth0', 'nodad'])
  expect(await reaches(space(id), at('stranger').ipv6, forged)).toBe(false)
})

test('hosts reach every machine by IPv4, and machines no host', async () => {
  for (const who of ['a', 'stranger', 'far'])
    for (const side of sides)
      expect([who, await reaches(side.netns, at(who).ipv4)]).toEqual([who, true])
  for (const side of sides) expect(await reaches(space(at('a').id), hostMeshIpv4(side))).toBe(false)
})

test('machines reach the world behind the uplink', async () => {
  expect(await reaches(space(at('a').id), right.underlay)).toBe(true)
})

test('what does not exist is said to be unreachable at once', async () => {
  const before = Date.now()
  expect(await reaches(left.netns, machineIpv4(left, 77), undefined, 10)).toBe(false)
  expect(Date.now() - before).toBeLessThan(8000)
})

test('a mesh that died comes back, and a restarted agent adopts what there is', async () => {
  const pid = await inside(left, async () => {
    const found = processesHere().find((one) =>
      readFileSync(`/proc/${one}/cmdline`, 'utf8').includes('wireguard-go'),
    )
    return found
  })
  await inside(left, async () => {
    const network = networkOf(left)
    expect([...(await network.attached())].sort()).toEqual(
      ['a', 'b', 'stranger'].map((who) => at(who).id).sort(),
    )
    await network.ensure(view)
    await network.attach(at('a'))
  })
  expect(await reaches(space(at('a').id), at('far').ipv6)).toBe(true)
  // A kernel with its own WireGuard has no process that could die.
  if (pid === undefined) return
  process.kill(pid, 'SIGKILL')
  await inside(left, async () => {
    const network = networkOf(left)
    const gone = Date.now() + 5000
    while (readFileSync('/proc/net/dev', 'utf8').includes(`w${name}1`)) {
      expect(Date.now()).toBeLessThan(gone)
      await systemClock.sleep(10)
    }
    await network.ensure(view)
  })
  await comesToReach(left.netns, at('far').ipv4)
  expect(await reaches(space(at('a').id), at('far').ipv6)).toBe(true)
})
