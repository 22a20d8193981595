"""LAWS"""
def test_laws_of_sequential_tests():
    for kind, parameter in (("obrien-fleming", None), ("pocock", None), ("kim-demets", 3), ("hwang-shih-decani", 2)):
        unequal = np.array([0.13, 0.4, 0.42, 1.0])
        design = sequential.by_spending(unequal, sequential.spending(kind, 0.025, parameter))
        assert abs(sequential.crossing(*design[:3]).power - 0.025) < 1e-11
        binding, drift = sequential.with_futility(design, sequential.spending(kind, 0.1, parameter), binding=True)
        assert abs(sequential.crossing(*binding[:3]).power - 0.025) < 1e-9
        assert abs(sequential.crossing(*binding[:3], drift).power - 0.9) < 1e-9
        assert np.all(binding.upper <= design.upper + 1e-12)


