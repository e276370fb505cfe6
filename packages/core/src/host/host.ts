import type { HostId, Instant, RegionCode } from '../id.ts'
import type { HostDisk } from './disk.ts'

/** A server that someone owns, as the rest of the installation knows it. */
export interface Host {
  readonly id: HostId
  readonly name: string
  readonly region: RegionCode
  /** 1–63, unique: it fixes the host's private addresses (see `subnet.ts`). */
  readonly number: number
  /** Where strangers reach its edge. IPv4. */
  readonly publicAddress: string
  /** WireGuard endpoint `address:port` and public key (base64). */
  readonly wireguard: { readonly endpoint: string; readonly publicKey: string }
  /** Raw X25519 public key (base64) that secrets are sealed for. */
  readonly sealingKey: string
  /** What it can hold, and whether it builds images. */
  readonly capacity: { readonly cpus: number; readonly memoryMb: number }
  readonly builder: boolean
  /** `draining`: nothing new is placed here. */
  readonly availability: 'active' | 'draining'
  /** From the server's view: when agent and edge last spoke. The edges judge each other by themselves. */
  readonly agentSeenAt: Instant | null
  readonly edgeSeenAt: Instant | null
  /** `unreachable` after 10 s of silence from its agent. */
  readonly status: 'ok' | 'unreachable'
  /** Its fullest file system, as it was when that last became another state. Absent: nothing was heard of it yet. */
  readonly disk?: HostDisk | null
}
