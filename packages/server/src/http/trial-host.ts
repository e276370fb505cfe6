import type { JoiningHost } from './hosts.ts'

/** What a host tells when it joins; its region is how its name begins. */
export function trialHost(name = 'ams-1', told: Partial<JoiningHost> = {}): JoiningHost {
  return {
    name,
    region: name.slice(0, 3),
    public_address: '192.0.2.1',
    wireguard: { endpoint: '192.0.2.1:51820', public_key: `key of ${name}` },
    sealing_key: Buffer.alloc(32, 9).toString('base64'),
    cpus: 2,
    memory_mb: 4096,
    builder: false,
    ...told,
  }
}
