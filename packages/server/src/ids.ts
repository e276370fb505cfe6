import { randomFillSync } from 'node:crypto'
import type { HostId, InstanceId, Instant, MachineId } from '@roost/core'
import { ulid } from 'ulid'

/** Names for new things. An argument everywhere, so that the simulator's come from its seed. */
export interface Ids {
  machineId(): MachineId
  hostId(): HostId
  instanceId(now: Instant): InstanceId
  /** Two words and a number, as Fly names machines: `quiet-river-1234`. */
  machineName(): string
  /** 32 bytes that nobody can guess, base64url. */
  secret(): string
}

export function createIds(
  randomBytes: (count: number) => Uint8Array = (count) => randomFillSync(new Uint8Array(count)),
): Ids {
  const hex = (count: number) => Buffer.from(randomBytes(count)).toString('hex')
  const below = (bound: number) => {
    const [a = 0, b = 0] = randomBytes(2)
    return (a * 256 + b) % bound
  }
  return {
    machineId: () => hex(7) as MachineId,
    hostId: () => hex(7) as HostId,
    instanceId: (now) => ulid(now, () => (randomBytes(1)[0] ?? 0) / 256) as InstanceId,
    machineName: () =>
      `${ADJECTIVES[below(ADJECTIVES.length)]}-${NOUNS[below(NOUNS.length)]}-${1000 + below(9000)}`,
    secret: () => Buffer.from(randomBytes(32)).toString('base64url'),
  }
}

const ADJECTIVES =
  'ancient autumn billowing bitter black blue bold broken cold cool crimson damp dark dawn delicate divine dry empty falling floral fragrant frosty green hidden holy icy late lingering little lively long misty morning muddy nameless old patient polished proud purple quiet red restless rough shy silent small snowy solitary sparkling spring still summer throbbing twilight wandering weathered white wild winter wispy withered young'.split(
    ' ',
  )
const NOUNS =
  'bird breeze brook bush butterfly cherry cloud darkness dawn dew dream dust feather field fire firefly flower fog forest frog frost glade glitter grass haze hill lake leaf meadow moon morning mountain night paper pine pond rain resonance river sea shadow shape silence sky smoke snow snowflake sound star sun sunset surf thunder tree violet voice water waterfall wave wildflower wind wood'.split(
    ' ',
  )
