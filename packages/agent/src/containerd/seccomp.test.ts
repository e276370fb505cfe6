import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { ociSeccomp, type SeccompProfile } from './seccomp.ts'

const host = {
  architecture: 'amd64',
  capabilities: ['CAP_CHOWN'],
  kernel: '6.1.0-13-amd64',
  with32Bit: true,
}

test('rules hold by capability, architecture and kernel', () => {
  const profile: SeccompProfile = {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 38,
    archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] }],
    syscalls: [
      { names: ['read'], action: 'SCMP_ACT_ALLOW', args: [] },
      { names: ['bpf'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_SYS_ADMIN'] } },
      { names: ['chown'], action: 'SCMP_ACT_ALLOW', includes: { caps: ['CAP_CHOWN'] } },
      { names: ['mount'], action: 'SCMP_ACT_ERRNO', errnoRet: 1, excludes: { caps: ['CAP_X'] } },
      { names: ['mine'], action: 'SCMP_ACT_ERRNO', excludes: { caps: ['CAP_CHOWN'] } },
      { names: ['arm'], action: 'SCMP_ACT_ALLOW', includes: { arches: ['arm64'] } },
      { names: ['ptrace'], action: 'SCMP_ACT_ALLOW', includes: { minKernel: '4.8' } },
      { names: ['later'], action: 'SCMP_ACT_ALLOW', includes: { minKernel: '6.2' } },
    ],
  }
  expect(ociSeccomp(profile, host)).toEqual({
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: 38,
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
    syscalls: [
      { names: ['read'], action: 'SCMP_ACT_ALLOW' },
      { names: ['chown'], action: 'SCMP_ACT_ALLOW' },
      { names: ['mount'], action: 'SCMP_ACT_ERRNO', errnoRet: 1 },
      { names: ['ptrace'], action: 'SCMP_ACT_ALLOW' },
    ],
  })
})

test('only its own architecture, unless 32 bits are asked for', () => {
  const profile: SeccompProfile = {
    defaultAction: 'SCMP_ACT_ERRNO',
    archMap: [{ architecture: 'SCMP_ARCH_X86_64', subArchitectures: ['SCMP_ARCH_X86'] }],
    syscalls: [],
  }
  const { architectures } = ociSeccomp(profile, { ...host, with32Bit: false })
  expect(architectures).toEqual(['SCMP_ARCH_X86_64'])
})

test('the profile of Debian forbids what leads out of a container', () => {
  const profile = JSON.parse(
    readFileSync('/usr/share/containers/seccomp.json', 'utf8'),
  ) as SeccompProfile
  const allowed = ociSeccomp(profile, host)
    .syscalls.filter((rule) => rule.action === 'SCMP_ACT_ALLOW')
    .flatMap((rule) => rule.names)
  expect(allowed).toContain('execve')
  for (const name of ['bpf', 'init_module', 'kexec_load', 'open_by_handle_at', 'settimeofday'])
    expect(allowed).not.toContain(name)
})
